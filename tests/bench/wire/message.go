package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// message is one HTTP/1.1 request or response with its body, chunks put together.
type message struct {
	start  string
	header map[string]string
	body   []byte
}

// readMessage reads the next message of a kept connection.
func readMessage(from *bufio.Reader) (*message, error) {
	start, err := readLine(from)
	if err != nil {
		return nil, err
	}
	read := &message{start: start, header: map[string]string{}}
	for {
		line, err := readLine(from)
		if err != nil {
			return nil, err
		}
		if line == "" {
			break
		}
		name, value, found := strings.Cut(line, ":")
		if !found {
			return nil, fmt.Errorf("no header: %q", line)
		}
		read.header[strings.ToLower(name)] = strings.TrimSpace(value)
	}
	if strings.EqualFold(read.header["transfer-encoding"], "chunked") {
		read.body, err = readChunks(from)
		return read, err
	}
	length, err := strconv.Atoi(read.header["content-length"])
	if err != nil {
		return nil, fmt.Errorf("content-length %q", read.header["content-length"])
	}
	read.body = make([]byte, length)
	_, err = io.ReadFull(from, read.body)
	return read, err
}

func readChunks(from *bufio.Reader) ([]byte, error) {
	var body bytes.Buffer
	for {
		line, err := readLine(from)
		if err != nil {
			return nil, err
		}
		size, err := strconv.ParseInt(line, 16, 32)
		if err != nil {
			return nil, fmt.Errorf("chunk size %q", line)
		}
		if _, err := io.CopyN(&body, from, size); err != nil {
			return nil, err
		}
		if _, err := readLine(from); err != nil {
			return nil, err
		}
		if size == 0 {
			return body.Bytes(), nil
		}
	}
}

func readLine(from *bufio.Reader) (string, error) {
	line, err := from.ReadString('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}
