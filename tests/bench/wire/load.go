package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Report is what one run of the load measured. Times are in milliseconds.
type Report struct {
	Requests int `json:"requests"`
	// Refused counts answers with another status than 200; they are in no other figure.
	Refused      int     `json:"refused"`
	WarmUp       int     `json:"warm_up_requests"`
	Seconds      float64 `json:"seconds"`
	LatencyP50   float64 `json:"latency_p50_ms"`
	LatencyP99   float64 `json:"latency_p99_ms"`
	FirstByteP50 float64 `json:"first_byte_p50_ms"`
	FirstByteP99 float64 `json:"first_byte_p99_ms"`
	OverheadP50  float64 `json:"overhead_p50_ms"`
	OverheadP99  float64 `json:"overhead_p99_ms"`
	// Fallbacks counts answers whose decision was not learned; meaningful for a learned policy alone.
	Fallbacks int `json:"fallbacks"`
}

// worker is one kept connection and what was measured on it.
type worker struct {
	connection                       net.Conn
	reader                           *bufio.Reader
	clock                            *timer
	latencies, firstBytes, overheads []float64
	fallbacks, refused               int
	refusal, err                     error
}

// plan says when requests begin and when to stop. With a rate, request i begins at i/rate after the start, whether or not the others
// are answered, and its latency counts from then on: a gateway that stalls is not asked less and pays for all who wait.
//
// Without a rate, connections begin one after the other over the time of spread, evenly. Answers that all take the same time would
// otherwise keep clients that began at once in step for ever, and each would wait behind all others.
type plan struct {
	started  time.Time
	spread   time.Duration
	rate     float64
	requests int64
	deadline time.Time
	taken    atomic.Int64
}

// next returns when the next request begins, and false if there is none.
func (own *plan) next() (time.Time, bool) {
	index := own.taken.Add(1) - 1
	begin := time.Now()
	if own.rate > 0 {
		begin = own.started.Add(time.Duration(float64(index) / own.rate * float64(time.Second)))
	}
	return begin, index < own.requests && begin.Before(own.deadline)
}

// runLoad asks over kept connections, each prompt once, and checks every answer.
func runLoad(arguments []string) error {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	prompts := asking(flags)
	connections := flags.Int("concurrency", 1, "connections that ask at the same time, or that there are at most with -rate")
	requests := flags.Int64("requests", math.MaxInt64, "requests that are measured")
	seconds := flags.Float64("seconds", 60, "longest time in which measured requests begin")
	warmUp := flags.Int64("warm-up", 10, "requests before those")
	rate := flags.Float64("rate", 0, "requests that begin in a second, whether or not others are answered (0: each after the one before)")
	spread := flags.Duration("spread", 0, "time over which connections begin, evenly (0: all at once); not with -rate")
	expect := flags.String("expect", "", "what every answer must contain, instead of being the same as the first one")
	show := flags.Bool("show", false, "ask once and print the answer's body instead of a report")
	flags.Parse(arguments)
	if *spread > 0 && *rate > 0 {
		return errors.New("-spread and -rate exclude each other")
	}
	prompts.prepare()
	check := &checker{expect: []byte(*expect)}
	if *show {
		return showOne(prompts)
	}
	workers, err := connect(prompts.address, *connections)
	if err != nil {
		return err
	}
	far := time.Now().Add(time.Hour)
	if err := run(workers, prompts, &plan{requests: *warmUp, deadline: far}, check); err != nil {
		return err
	}
	for _, each := range workers {
		each.latencies, each.firstBytes, each.overheads, each.fallbacks, each.refused = nil, nil, nil, 0, 0
	}
	started := time.Now()
	measured := &plan{started: started, spread: *spread, rate: *rate, requests: *requests, deadline: started.Add(time.Duration(*seconds * float64(time.Second)))}
	if err := run(workers, prompts, measured, check); err != nil {
		return err
	}
	report := summary(workers, time.Since(started).Seconds())
	report.WarmUp = int(*warmUp)
	// Figures of the few that were answered would say nothing of the gateway.
	if report.Refused > report.Requests {
		return mostRefused(workers)
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}

func connect(address string, connections int) ([]*worker, error) {
	workers := make([]*worker, connections)
	for index := range workers {
		clock, err := newTimer()
		if err != nil {
			return nil, err
		}
		workers[index] = &worker{clock: clock}
		if err := workers[index].connect(address); err != nil {
			return nil, err
		}
	}
	return workers, nil
}

func (own *worker) connect(address string) error {
	if own.connection != nil {
		own.connection.Close()
	}
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	own.connection, own.reader = connection, bufio.NewReader(connection)
	return nil
}

// exchange returns io.EOF if the other side closed the connection instead of answering.
func (own *worker) exchange(request []byte) (*message, error) {
	if _, err := own.connection.Write(request); err != nil {
		return nil, err
	}
	return readMessage(own.reader)
}

func run(workers []*worker, prompts *source, measured *plan, check *checker) error {
	var waiting sync.WaitGroup
	for index, each := range workers {
		waiting.Add(1)
		begin := measured.started.Add(measured.spread * time.Duration(index) / time.Duration(len(workers)))
		go func() {
			defer waiting.Done()
			if each.err = each.clock.until(begin); each.err == nil {
				each.err = each.ask(prompts, measured, check)
			}
		}()
	}
	waiting.Wait()
	for _, each := range workers {
		if each.err != nil {
			return each.err
		}
	}
	return nil
}

func (own *worker) ask(prompts *source, measured *plan, check *checker) error {
	for {
		begin, more := measured.next()
		if !more {
			return nil
		}
		if measured.rate > 0 {
			if err := own.clock.until(begin); err != nil {
				return err
			}
		}
		request, _ := prompts.request()
		got, err := own.exchange(request)
		if err == io.EOF || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
			// Servers close connections that nobody used for some seconds; a client asks again on another one.
			if err := own.connect(prompts.address); err != nil {
				return err
			}
			got, err = own.exchange(request)
		}
		if err != nil {
			return err
		}
		if !strings.Contains(got.start, " 200 ") {
			own.refused, own.refusal = own.refused+1, fmt.Errorf("%s: %.300s", got.start, got.body)
			continue
		}
		own.latencies = append(own.latencies, milliseconds(time.Since(begin)))
		own.firstBytes = append(own.firstBytes, milliseconds(got.firstByte.Sub(begin)))
		if err := check.check(got); err != nil {
			return err
		}
		own.note(got)
	}
}

func mostRefused(workers []*worker) error {
	for _, each := range workers {
		if each.refusal != nil {
			return fmt.Errorf("most requests are refused: %w", each.refusal)
		}
	}
	return fmt.Errorf("no request was answered")
}

func (own *worker) note(got *message) {
	if overhead, err := strconv.ParseFloat(got.header["x-foresail-overhead-ms"], 64); err == nil {
		own.overheads = append(own.overheads, overhead)
	}
	if got.header["x-foresail-basis"] != "Learned" {
		own.fallbacks++
	}
}

// checker compares every answer with the first one byte for byte, or looks for a text in it.
type checker struct {
	expect []byte
	first  atomic.Pointer[[]byte]
}

func (own *checker) check(got *message) error {
	if len(own.expect) > 0 {
		if !bytes.Contains(got.body, own.expect) {
			return fmt.Errorf("an answer lacks %q: %.300s", own.expect, got.body)
		}
		return nil
	}
	if own.first.CompareAndSwap(nil, &got.body) || bytes.Equal(*own.first.Load(), got.body) {
		return nil
	}
	return fmt.Errorf("an answer differs from the first one: %.300s", got.body)
}

func showOne(prompts *source) error {
	connection, err := net.Dial("tcp", prompts.address)
	if err != nil {
		return err
	}
	defer connection.Close()
	request, _ := prompts.request()
	if _, err := connection.Write(request); err != nil {
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

func summary(workers []*worker, seconds float64) Report {
	var latencies, firstBytes, overheads []float64
	fallbacks, refused := 0, 0
	for _, each := range workers {
		latencies = append(latencies, each.latencies...)
		firstBytes = append(firstBytes, each.firstBytes...)
		overheads = append(overheads, each.overheads...)
		fallbacks += each.fallbacks
		refused += each.refused
	}
	return Report{
		Requests: len(latencies), Refused: refused, Seconds: seconds, Fallbacks: fallbacks,
		LatencyP50: quantile(latencies, 0.5), LatencyP99: quantile(latencies, 0.99),
		FirstByteP50: quantile(firstBytes, 0.5), FirstByteP99: quantile(firstBytes, 0.99),
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
