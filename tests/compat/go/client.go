// Requests of Go's net/http, each described by a line of JSON on standard input, and what came of it as a line
// on standard output.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

type asked struct {
	URL, Method, Target, CA string
	Fields                  map[string]string
	Body                    *string
	NoLength                bool
}

type outcome struct {
	Error  string      `json:"error,omitempty"`
	Status int         `json:"status"`
	Fields [][2]string `json:"fields"`
	Body   string      `json:"body"`
}

// What is innermost, without addresses.
func failed(err error) outcome {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return outcome{Error: err.Error()}
}

func ask(asked asked) outcome {
	pool := x509.NewCertPool()
	if pem, err := os.ReadFile(asked.CA); err == nil {
		pool.AppendCertsFromPEM(pem)
	}
	transport := &http.Transport{
		TLSClientConfig:    &tls.Config{RootCAs: pool},
		ForceAttemptHTTP2:  true,
		DisableCompression: true,
	}
	defer transport.CloseIdleConnections()
	var body io.Reader
	if asked.Body != nil {
		body = strings.NewReader(*asked.Body)
		if asked.NoLength {
			body = io.MultiReader(body)
		}
	}
	request, err := http.NewRequest(asked.Method, asked.URL+asked.Target, body)
	if err != nil {
		return failed(err)
	}
	for name, value := range asked.Fields {
		request.Header.Set(name, value)
	}
	client := http.Client{
		Transport:     transport,
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return failed(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		return failed(err)
	}
	result := outcome{Status: response.StatusCode, Body: hex.EncodeToString(read), Fields: [][2]string{}}
	for name, values := range response.Header {
		for _, value := range values {
			result.Fields = append(result.Fields, [2]string{name, value})
		}
	}
	return result
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	results := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var next asked
		if err := json.Unmarshal(lines.Bytes(), &next); err != nil {
			panic(err)
		}
		if err := results.Encode(ask(next)); err != nil {
			panic(err)
		}
	}
}
