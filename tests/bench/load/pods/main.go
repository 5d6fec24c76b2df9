// Creates Pods through an API server as fast as it takes them, from as many workers as it is told, and prints what
// that took as one line of JSON. In a process of its own and in Go, so that asking costs little beside what is asked.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type result struct {
	Requests int     `json:"requests"`
	Seconds  float64 `json:"seconds"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	Errors   int     `json:"errors"`
	Error    string  `json:"error"`
}

func main() {
	url := flag.String("url", "", "where Pods are created")
	ca := flag.String("ca", "", "file of the CA")
	token := flag.String("token", "", "bearer token")
	body := flag.String("body", "", "file of the Pod, in which @NAME@ stands for its name")
	prefix := flag.String("prefix", "pod", "of the names")
	count := flag.Int("count", 100, "Pods")
	workers := flag.Int("workers", 16, "at once")
	flag.Parse()

	template, err := os.ReadFile(*body)
	if err != nil {
		log.Fatal(err)
	}
	client := trusting(*ca, *workers)
	latencies := make([]time.Duration, *count)
	var next, failed atomic.Int64
	var first atomic.Value
	var group sync.WaitGroup
	began := time.Now()
	for range *workers {
		group.Go(func() {
			for {
				number := int(next.Add(1)) - 1
				if number >= *count {
					return
				}
				name := fmt.Sprintf("%s-%05d", *prefix, number)
				pod := bytes.ReplaceAll(template, []byte("@NAME@"), []byte(name))
				asked := time.Now()
				if err := create(client, *url, *token, pod); err != nil {
					failed.Add(1)
					first.CompareAndSwap(nil, err.Error())
				}
				latencies[number] = time.Since(asked)
			}
		})
	}
	group.Wait()
	report(latencies, time.Since(began), int(failed.Load()), first.Load())
}

func trusting(file string, workers int) *http.Client {
	text, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots},
		MaxIdleConnsPerHost: workers,
		ForceAttemptHTTP2:   true,
	}}
}

func create(client *http.Client, url, token string, pod []byte) error {
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(pod))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s", answer.Status, strings.TrimSpace(string(said)))
	}
	return err
}

func report(latencies []time.Duration, took time.Duration, failed int, first any) {
	slices.Sort(latencies)
	at := func(share float64) float64 {
		return float64(latencies[int(share*float64(len(latencies)-1))].Microseconds()) / 1000
	}
	said := result{len(latencies), took.Seconds(), at(0.50), at(0.99), failed, ""}
	if text, is := first.(string); is {
		said.Error = text
	}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		log.Fatal(err)
	}
}
