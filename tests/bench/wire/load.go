package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Report is what one run of the load measured. Times are in milliseconds.
type Report struct {
	Requests    int     `json:"requests"`
	Seconds     float64 `json:"seconds"`
	LatencyP50  float64 `json:"latency_p50_ms"`
	LatencyP99  float64 `json:"latency_p99_ms"`
	OverheadP50 float64 `json:"overhead_p50_ms"`
	OverheadP99 float64 `json:"overhead_p99_ms"`
	// Fallbacks counts answers whose decision was not learned; meaningful for a learned policy alone.
	Fallbacks int `json:"fallbacks"`
}

type worker struct {
	latencies, overheads []float64
	fallbacks            int
	err                  error
}

// runLoad asks over kept connections, each prompt once, and checks every answer byte for byte against the first one.
func runLoad(arguments []string) error {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	address := flags.String("address", "", "address to ask")
	model := flags.String("model", "auto", "model to ask for")
	concurrency := flags.Int("concurrency", 1, "connections that ask at the same time")
	requests := flags.Int("requests", 100, "requests that are measured")
	warmUp := flags.Int("warm-up", 10, "requests before those")
	first := flags.Int("first", 0, "number of the first prompt; prompts differ by their number")
	streamed := flags.Bool("stream", false, "ask for streams")
	show := flags.Bool("show", false, "ask once and print the answer's body instead of a report")
	flags.Parse(arguments)
	prompts := &source{model: *model, streamed: *streamed}
	prompts.next.Store(int64(*first))
	if *show {
		return showOne(*address, prompts)
	}
	if err := failed(run(*address, prompts, *concurrency, *warmUp)); err != nil {
		return err
	}
	started := time.Now()
	workers := run(*address, prompts, *concurrency, *requests)
	seconds := time.Since(started).Seconds()
	if err := failed(workers); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(summary(workers, seconds))
}

// source gives each request a prompt that no other one has, so that no cache answers for a router.
type source struct {
	model    string
	streamed bool
	next     atomic.Int64
}

func (prompts *source) request() []byte {
	number := prompts.next.Add(1)
	prompt := fmt.Sprintf("Case %08d. A train leaves at %d past nine and is %d minutes late. Which later connection can I still reach, "+
		"if changing platforms takes me six minutes and the next ones leave at twenty, forty and fifty past? Explain in two sentences.",
		number, number%60, number%17)
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%q}],"temperature":0,"max_tokens":64,"stream":%t}`,
		prompts.model, prompt, prompts.streamed)
	return []byte(fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		len(body), body))
}

func run(address string, prompts *source, concurrency, requests int) []*worker {
	var waiting sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(requests))
	workers := make([]*worker, concurrency)
	for index := range workers {
		workers[index] = &worker{}
		waiting.Add(1)
		go func(own *worker) {
			defer waiting.Done()
			own.err = own.ask(address, prompts, &left)
		}(workers[index])
	}
	waiting.Wait()
	return workers
}

func (own *worker) ask(address string, prompts *source, left *atomic.Int64) error {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	reader := bufio.NewReader(connection)
	var expected []byte
	for left.Add(-1) >= 0 {
		request := prompts.request()
		started := time.Now()
		if _, err := connection.Write(request); err != nil {
			return err
		}
		got, err := readMessage(reader)
		if err != nil {
			return err
		}
		own.latencies = append(own.latencies, milliseconds(time.Since(started)))
		if !strings.Contains(got.start, " 200 ") {
			return fmt.Errorf("%s: %.300s", got.start, got.body)
		}
		if expected == nil {
			expected = got.body
		}
		if !bytes.Equal(expected, got.body) {
			return fmt.Errorf("an answer differs from the first one: %.300s", got.body)
		}
		if overhead, err := strconv.ParseFloat(got.header["x-foresail-overhead-ms"], 64); err == nil {
			own.overheads = append(own.overheads, overhead)
		}
		if got.header["x-foresail-basis"] != "Learned" {
			own.fallbacks++
		}
	}
	return nil
}

func showOne(address string, prompts *source) error {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	if _, err := connection.Write(prompts.request()); err != nil {
		return err
	}
	got, err := readMessage(bufio.NewReader(connection))
	if err != nil {
		return err
	}
	if !strings.Contains(got.start, " 200 ") {
		return fmt.Errorf("%s: %s", got.start, got.body)
	}
	_, err = os.Stdout.Write(got.body)
	return err
}

func failed(workers []*worker) error {
	for _, each := range workers {
		if each.err != nil {
			return each.err
		}
	}
	return nil
}

func summary(workers []*worker, seconds float64) Report {
	var latencies, overheads []float64
	fallbacks := 0
	for _, each := range workers {
		latencies = append(latencies, each.latencies...)
		overheads = append(overheads, each.overheads...)
		fallbacks += each.fallbacks
	}
	return Report{
		Requests: len(latencies), Seconds: seconds, Fallbacks: fallbacks,
		LatencyP50: quantile(latencies, 0.5), LatencyP99: quantile(latencies, 0.99),
		OverheadP50: quantile(overheads, 0.5), OverheadP99: quantile(overheads, 0.99),
	}
}

func quantile(values []float64, share float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sort.Float64s(values)
	return values[int(share*float64(len(values)-1)+0.5)]
}

func milliseconds(duration time.Duration) float64 {
	return float64(duration.Nanoseconds()) / 1e6
}
