package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// behaviour is how the mock answers until it is told otherwise: `GET /set?delay=20ms&answer=1024&chunks=40&gap=5ms&hold=true`.
type behaviour struct {
	delay, gap time.Duration
	whole      []byte
	chunks     int
	// hold keeps a stream open after its chunks until the other side leaves.
	hold bool
}

// mock is the upstream. It remembers when the other side left in the middle of an answer: `GET /left`, nanoseconds by request.
type mock struct {
	now  atomic.Pointer[behaviour]
	lock sync.Mutex
	left map[int64]int64
}

func serveMock(arguments []string) error {
	flags := flag.NewFlagSet("mock", flag.ExitOnError)
	address := flags.String("address", "127.0.0.1:0", "address to listen on")
	delay := flags.Duration("delay", 0, "time before each answer")
	flags.Parse(arguments)
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	own := &mock{left: map[int64]int64{}}
	if err := own.set(url.Values{"delay": {delay.String()}}); err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go own.answerAll(connection)
	}
}

func (own *mock) answerAll(connection net.Conn) {
	defer connection.Close()
	clock, err := newTimer()
	if err != nil {
		return
	}
	defer clock.close()
	reader := bufio.NewReader(connection)
	for {
		request, err := readMessage(reader)
		if err != nil {
			return
		}
		path := strings.Split(request.start, " ")[1]
		if strings.HasPrefix(path, "/set?") || path == "/left" {
			own.control(connection, path)
			return
		}
		now := own.now.Load()
		if now.hold {
			own.watched(connection, reader, request, now, clock)
			return
		}
		if own.answer(connection, request.body, now, clock) != nil {
			return
		}
	}
}

func (own *mock) answer(to net.Conn, body []byte, now *behaviour, clock *timer) error {
	due := time.Now().Add(now.delay)
	if err := clock.until(due); err != nil {
		return err
	}
	if says(body, "stream") {
		return stream(to, body, now, due, clock)
	}
	_, err := to.Write(now.whole)
	return err
}

// watched answers once, keeps a stream open, and notes when the other side leaves, before the answer or in the middle of it.
func (own *mock) watched(connection net.Conn, reader *bufio.Reader, request *message, now *behaviour, clock *timer) {
	gone := make(chan struct{})
	go func() {
		reader.Peek(1)
		own.lock.Lock()
		own.left[numberOf(request.body)] = time.Now().UnixNano()
		own.lock.Unlock()
		close(gone)
	}()
	select {
	case <-gone:
		return
	case <-time.After(now.delay):
	}
	if stream(connection, request.body, now, time.Now(), clock) == nil {
		<-gone
	}
}

// says reports whether a body sets a flag, whoever wrote its JSON.
func says(body []byte, name string) bool {
	return bytes.Contains(body, []byte(`"`+name+`":true`)) || bytes.Contains(body, []byte(`"`+name+`": true`))
}

const (
	streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	piece      = `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"mock","choices":[{"index":0,"delta":{"content":"word %d "},"finish_reason":%s}]}`
	usage      = `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"mock","choices":[],"usage":{"prompt_tokens":60,"completion_tokens":40,"total_tokens":100}}`
)

// stream sends its head with the first chunk, each further chunk on time, and usage where the body asks for it.
func stream(to net.Conn, body []byte, now *behaviour, due time.Time, clock *timer) error {
	for number := range now.chunks {
		if err := clock.until(due.Add(time.Duration(number) * now.gap)); err != nil {
			return err
		}
		head, reason := "", "null"
		if number == 0 {
			head = streamHead
		}
		if number == now.chunks-1 && !now.hold {
			reason = `"stop"`
		}
		if _, err := to.Write([]byte(head + event(fmt.Sprintf(piece, number, reason)))); err != nil {
			return err
		}
	}
	if now.hold {
		return nil
	}
	end := event("[DONE]") + "0\r\n\r\n"
	if says(body, "include_usage") {
		end = event(usage) + end
	}
	_, err := to.Write([]byte(end))
	return err
}

func event(data string) string {
	return fmt.Sprintf("%x\r\ndata: %s\n\n\r\n", len(data)+8, data)
}

func (own *mock) control(to net.Conn, path string) {
	said := "ok\n"
	if path == "/left" {
		own.lock.Lock()
		written, _ := json.Marshal(own.left)
		own.left = map[int64]int64{}
		own.lock.Unlock()
		said = string(written)
	} else if values, err := url.ParseQuery(strings.TrimPrefix(path, "/set?")); err != nil {
		said = err.Error()
	} else if err := own.set(values); err != nil {
		said = err.Error()
	}
	fmt.Fprintf(to, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(said), said)
}

// set replaces the behaviour; what is not said takes its usual value.
func (own *mock) set(values url.Values) error {
	get := func(name, usual string) string {
		if values.Has(name) {
			return values.Get(name)
		}
		return usual
	}
	made := &behaviour{hold: get("hold", "false") == "true"}
	var err error
	if made.delay, err = time.ParseDuration(get("delay", "0s")); err != nil {
		return err
	}
	if made.gap, err = time.ParseDuration(get("gap", "0s")); err != nil {
		return err
	}
	if made.chunks, err = strconv.Atoi(get("chunks", "20")); err != nil {
		return err
	}
	size, err := strconv.Atoi(get("answer", "0"))
	if err != nil {
		return err
	}
	made.whole = wholeAnswer(size)
	own.now.Store(made)
	return nil
}

// wholeAnswer returns a response whose body has about so many bytes, at least what an answer needs.
func wholeAnswer(size int) []byte {
	const answer = `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"mock","choices":[{"index":0,"message":` +
		`{"role":"assistant","content":"The quick brown fox jumps over the lazy dog.%s"},"finish_reason":"stop"}],` +
		`"usage":{"prompt_tokens":60,"completion_tokens":10,"total_tokens":70}}`
	body := fmt.Sprintf(answer, strings.Repeat(" word", max(0, size-len(answer)+2)/5))
	return []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
}
