package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// opened is a stream that was asked for, with its first chunk if that was waited for.
type opened struct {
	connection net.Conn
	number     int64
	err        error
}

func open(prompts *source, toFirstChunk bool) opened {
	connection, err := net.Dial("tcp", prompts.address)
	if err != nil {
		return opened{err: err}
	}
	request, number := prompts.request()
	if _, err = connection.Write(request); err == nil && toFirstChunk {
		err = firstChunk(bufio.NewReader(connection))
	}
	return opened{connection, number, err}
}

func firstChunk(from *bufio.Reader) error {
	got, err := readHead(from)
	if err != nil {
		return err
	}
	if !strings.Contains(got.start, " 200 ") {
		return fmt.Errorf("%s", got.start)
	}
	_, err = got.readChunk(from)
	return err
}

// runHold opens streams, prints how many have their first chunk, and leaves them open until its standard input ends.
func runHold(arguments []string) error {
	flags := flag.NewFlagSet("hold", flag.ExitOnError)
	prompts := asking(flags)
	streams := flags.Int("streams", 100, "streams to hold open")
	atOnce := flags.Int("at-once", 32, "streams that are opened at the same time")
	flags.Parse(arguments)
	*prompts.streamed = true
	prompts.prepare()
	held := make([]opened, *streams)
	inParallel(*streams, *atOnce, func(index int) { held[index] = open(prompts, true) })
	for _, each := range held {
		if each.err != nil {
			return each.err
		}
	}
	fmt.Println(len(held))
	io.Copy(io.Discard, os.Stdin)
	for _, each := range held {
		each.connection.Close()
	}
	return nil
}

// runCancel asks for streams, leaves before or after their first chunk, and reports when the upstream saw it.
func runCancel(arguments []string) error {
	flags := flag.NewFlagSet("cancel", flag.ExitOnError)
	prompts := asking(flags)
	count := flags.Int("count", 100, "requests to leave")
	atOnce := flags.Int("at-once", 8, "requests at the same time")
	afterFirst := flags.Bool("after-first", false, "leave after the first chunk instead of before it")
	pause := flags.Duration("pause", 50*time.Millisecond, "time between asking, or the first chunk, and leaving")
	patience := flags.Duration("patience", time.Second, "longest wait for the upstream to see that the client left")
	upstream := flags.String("upstream", "", "address of the mock")
	flags.Parse(arguments)
	*prompts.streamed = true
	prompts.prepare()
	var lock sync.Mutex
	leftAt := map[int64]int64{}
	var failure error
	inParallel(*count, *atOnce, func(int) {
		each := open(prompts, *afterFirst)
		time.Sleep(*pause)
		lock.Lock()
		defer lock.Unlock()
		if each.err != nil {
			failure = each.err
			return
		}
		leftAt[each.number] = time.Now().UnixNano()
		each.connection.Close()
	})
	if failure != nil {
		return failure
	}
	time.Sleep(*patience)
	seenAt, err := seen(*upstream)
	if err != nil {
		return err
	}
	var took []float64
	for number, at := range leftAt {
		if then, found := seenAt[number]; found {
			took = append(took, float64(then-at)/1e6)
		}
	}
	report := map[string]float64{
		"left": float64(len(leftAt)), "seen": float64(len(took)), "p50_ms": quantile(took, 0.5), "p99_ms": quantile(took, 0.99),
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}

// seen asks the mock when it saw whom leave.
func seen(address string) (map[int64]int64, error) {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	if _, err := connection.Write([]byte("GET /left HTTP/1.1\r\nHost: bench\r\n\r\n")); err != nil {
		return nil, err
	}
	got, err := readMessage(bufio.NewReader(connection))
	if err != nil {
		return nil, err
	}
	found := map[int64]int64{}
	return found, json.Unmarshal(got.body, &found)
}

func inParallel(count, atOnce int, do func(index int)) {
	var waiting sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for index := range count {
		slots <- struct{}{}
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			do(index)
			<-slots
		}()
	}
	waiting.Wait()
}
