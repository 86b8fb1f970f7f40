package main

import (
	"bytes"
	"flag"
	"fmt"
	"strings"
	"sync/atomic"
)

// mark precedes the number of a request in its prompt, by which the mock knows it again.
const (
	mark   = "Case "
	digits = 8
)

// source gives each request a prompt that no other one has, so that no cache answers for a gateway.
type source struct {
	address     string
	path, model *string
	first, size *int
	streamed    *bool
	headers     list
	before      []byte
	after       []byte
	next        atomic.Int64
}

// asking adds the flags that say what is asked for.
func asking(flags *flag.FlagSet) *source {
	made := &source{}
	flags.StringVar(&made.address, "address", "", "address to ask")
	made.path = flags.String("path", "/v1/chat/completions", "path to ask for")
	made.model = flags.String("model", "auto", "model to ask for")
	made.first = flags.Int("first", 0, "number of the first prompt; prompts differ by their number")
	made.size = flags.Int("size", 0, "bytes of a request's body, filled up in its prompt (0: as it is)")
	made.streamed = flags.Bool("stream", false, "ask for streams")
	flags.Var(&made.headers, "header", "a further header, `name: value`; may be repeated")
	return made
}

// prepare makes what all requests share, once the flags are read.
func (made *source) prepare() {
	made.next.Store(int64(*made.first))
	opening := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"%s`, *made.model, mark)
	closing := `. A train leaves at nine and is late. Which later connection can I still reach, if changing platforms takes me six minutes and ` +
		`the next ones leave at twenty, forty and fifty past? Explain in two sentences.` + "%s" +
		fmt.Sprintf(`"}],"temperature":0,"max_tokens":64,"stream":%t}`, *made.streamed)
	filling := strings.Repeat(" word", max(0, *made.size-len(opening)-digits-len(closing)+2)/5)
	made.after = []byte(fmt.Sprintf(closing, filling))
	length := len(opening) + digits + len(made.after)
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", *made.path, length)
	for _, header := range made.headers {
		head += header + "\r\n"
	}
	made.before = []byte(head + "\r\n" + opening)
}

// request returns the next request and its number.
func (made *source) request() ([]byte, int64) {
	number := made.next.Add(1)
	whole := make([]byte, 0, len(made.before)+digits+len(made.after))
	whole = append(whole, made.before...)
	whole = fmt.Appendf(whole, "%08d", number)
	return append(whole, made.after...), number
}

// numberOf returns the number in a request's body, 0 if there is none.
func numberOf(body []byte) int64 {
	at := bytes.Index(body, []byte(mark))
	if at < 0 || len(body) < at+len(mark)+digits {
		return 0
	}
	number := int64(0)
	for _, each := range body[at+len(mark) : at+len(mark)+digits] {
		if each < '0' || each > '9' {
			return 0
		}
		number = 10*number + int64(each-'0')
	}
	return number
}
