package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// message is one HTTP/1.1 request or response with its body, chunks put together.
type message struct {
	start  string
	header map[string]string
	body   []byte
	// firstByte is when the first part of the body was there.
	firstByte time.Time
}

// readMessage reads the next message of a kept connection.
func readMessage(from *bufio.Reader) (*message, error) {
	read, err := readHead(from)
	if err != nil {
		return nil, err
	}
	if strings.EqualFold(read.header["transfer-encoding"], "chunked") {
		return read, read.readChunks(from)
	}
	length := 0
	if said, found := read.header["content-length"]; found {
		if length, err = strconv.Atoi(said); err != nil {
			return nil, fmt.Errorf("content-length %q", said)
		}
	}
	read.body = make([]byte, length)
	_, err = io.ReadFull(from, read.body)
	read.firstByte = time.Now()
	return read, err
}

func readHead(from *bufio.Reader) (*message, error) {
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
			return read, nil
		}
		name, value, found := strings.Cut(line, ":")
		if !found {
			return nil, fmt.Errorf("no header: %q", line)
		}
		read.header[strings.ToLower(name)] = strings.TrimSpace(value)
	}
}

func (read *message) readChunks(from *bufio.Reader) error {
	for {
		more, err := read.readChunk(from)
		if err != nil || !more {
			return err
		}
	}
}

// readChunk adds the next chunk to the body and says whether there may be more.
func (read *message) readChunk(from *bufio.Reader) (bool, error) {
	line, err := readLine(from)
	if err != nil {
		return false, err
	}
	size, err := strconv.ParseInt(line, 16, 32)
	if err != nil {
		return false, fmt.Errorf("chunk size %q", line)
	}
	if read.firstByte.IsZero() {
		read.firstByte = time.Now()
	}
	had := len(read.body)
	read.body = append(read.body, make([]byte, size)...)
	if _, err := io.ReadFull(from, read.body[had:]); err != nil {
		return false, err
	}
	_, err = readLine(from)
	return size > 0, err
}

func readLine(from *bufio.Reader) (string, error) {
	line, err := from.ReadString('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}
