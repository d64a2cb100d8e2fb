// For `make bench-webhook`: a webhook that allows everything, and the load that it and ours are
// measured with.
//
//	admission serve -address HOST:PORT -cert FILE -key FILE
//	admission load -url URL -body FILE -rate N -seconds N -ca FILE [-cert FILE -key FILE]
//
// `load` sends at a fixed rate whatever the answers take, and prints JSON: milliseconds from the moment
// at which each request was due to the end of its answer, failures, and seconds in all.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

func main() {
	flags := flag.NewFlagSet("admission", flag.ExitOnError)
	address := flags.String("address", "", "")
	cert := flags.String("cert", "", "")
	key := flags.String("key", "", "")
	ca := flags.String("ca", "", "")
	url := flags.String("url", "", "")
	body := flags.String("body", "", "")
	rate := flags.Int("rate", 1, "")
	seconds := flags.Int("seconds", 1, "")
	must(flags.Parse(os.Args[2:]))
	if os.Args[1] == "serve" {
		must(http.ListenAndServeTLS(*address, *cert, *key, http.HandlerFunc(allow)))
	}
	load(client(*ca, *cert, *key), *url, read(*body), *rate, *seconds)
}

func allow(w http.ResponseWriter, r *http.Request) {
	var review struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Request    struct {
			UID string `json:"uid"`
		} `json:"request"`
	}
	if json.NewDecoder(r.Body).Decode(&review) != nil {
		http.Error(w, "no review", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"apiVersion":%q,"kind":%q,"response":{"uid":%q,"allowed":true}}`,
		review.APIVersion, review.Kind, review.Request.UID)
}

func client(ca, cert, key string) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(read(ca))
	config := &tls.Config{RootCAs: pool}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		must(err)
		config.Certificates = []tls.Certificate{pair}
	}
	// As the API server calls webhooks: HTTP/1.1, 25 idle connections.
	transport := &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 25}
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

func load(client *http.Client, url string, body []byte, rate, seconds int) {
	total := rate * seconds
	took := make([]float64, total)
	failed := make([]string, total)
	var running sync.WaitGroup
	begin := time.Now()
	for number := range total {
		due := begin.Add(time.Duration(number) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(due))
		running.Add(1)
		go func() {
			defer running.Done()
			failed[number] = post(client, url, body)
			took[number] = float64(time.Since(due).Microseconds()) / 1000
		}()
	}
	running.Wait()
	result := map[string]any{"seconds": time.Since(begin).Seconds(), "milliseconds": took}
	words := []string{}
	for _, word := range failed {
		if word != "" {
			words = append(words, word)
		}
	}
	result["failures"] = words
	must(json.NewEncoder(os.Stdout).Encode(result))
}

func post(client *http.Client, url string, body []byte) string {
	answer, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err.Error()
	}
	if answer.StatusCode >= 300 {
		return fmt.Sprintf("%d %.200s", answer.StatusCode, text)
	}
	return ""
}

func read(path string) []byte {
	text, err := os.ReadFile(path)
	must(err)
	return text
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
