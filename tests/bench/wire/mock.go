package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"net"
	"time"
)

const answer = `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"mock","choices":[{"index":0,"message":` +
	`{"role":"assistant","content":"The quick brown fox jumps over the lazy dog."},"finish_reason":"stop"}],` +
	`"usage":{"prompt_tokens":60,"completion_tokens":10,"total_tokens":70}}`

const words = 20

// serveMock answers every request after a delay, as JSON or as a stream, and reports usage on streams that ask for it.
func serveMock(arguments []string) error {
	flags := flag.NewFlagSet("mock", flag.ExitOnError)
	address := flags.String("address", "127.0.0.1:0", "address to listen on")
	delay := flags.Duration("delay", 0, "time before each answer")
	flags.Parse(arguments)
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	whole := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer))
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go answerAll(connection, *delay, whole)
	}
}

func answerAll(connection net.Conn, delay time.Duration, whole []byte) {
	defer connection.Close()
	reader := bufio.NewReader(connection)
	for {
		request, err := readMessage(reader)
		if err != nil {
			return
		}
		time.Sleep(delay)
		if says(request.body, "stream") {
			err = stream(connection, says(request.body, "include_usage"))
		} else {
			_, err = connection.Write(whole)
		}
		if err != nil {
			return
		}
	}
}

// says reports whether a body sets a flag, whoever wrote its JSON.
func says(body []byte, name string) bool {
	return bytes.Contains(body, []byte(`"`+name+`":true`)) || bytes.Contains(body, []byte(`"`+name+`": true`))
}

func stream(to net.Conn, withUsage bool) error {
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	if _, err := to.Write([]byte(head)); err != nil {
		return err
	}
	piece := `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"mock","choices":[{"index":0,"delta":{"content":"word %d "},"finish_reason":null}]}`
	for number := range words {
		if err := event(to, fmt.Sprintf(piece, number)); err != nil {
			return err
		}
	}
	if withUsage {
		usage := `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"mock","choices":[],"usage":{"prompt_tokens":60,"completion_tokens":40,"total_tokens":100}}`
		if err := event(to, usage); err != nil {
			return err
		}
	}
	if err := event(to, "[DONE]"); err != nil {
		return err
	}
	_, err := to.Write([]byte("0\r\n\r\n"))
	return err
}

func event(to net.Conn, data string) error {
	_, err := fmt.Fprintf(to, "%x\r\ndata: %s\n\n\r\n", len(data)+8, data)
	return err
}
