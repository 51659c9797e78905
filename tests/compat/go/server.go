// A server of Go's net/http, which responds as server.py does.
package main

import (
	"io"
	"net/http"
	"os"
	"strings"
)

func respond(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	if status != http.StatusNoContent && status != http.StatusNotModified {
		io.WriteString(w, text)
	}
}

func handle(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/early" {
		w.Header().Set("connection", "close")
		respond(w, http.StatusUnauthorized, "no")
		return
	}
	body, _ := io.ReadAll(r.Body)
	plain := func() { w.Header().Set("content-type", "text/plain") }
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/echo"):
		plain()
		w.Header().Set("x-seen", r.Method)
		respond(w, http.StatusOK, string(body))
	case strings.Contains(path, "echo-target"):
		plain()
		respond(w, http.StatusOK, r.RequestURI)
	case path == "/text":
		plain()
		respond(w, http.StatusOK, "hello\n")
	case path == "/no-content":
		respond(w, http.StatusNoContent, "")
	case path == "/not-modified":
		respond(w, http.StatusNotModified, "")
	case path == "/redirect":
		w.Header().Set("location", "/text")
		respond(w, http.StatusFound, "")
	case path == "/cookies":
		w.Header().Add("set-cookie", "a=1")
		w.Header().Add("set-cookie", "b=2")
		respond(w, http.StatusOK, "")
	case path == "/chunks":
		for _, piece := range []string{"one ", "two ", "three"} {
			io.WriteString(w, piece)
			w.(http.Flusher).Flush()
		}
	case path == "/error":
		respond(w, http.StatusInternalServerError, "broken")
	case path == "/large":
		respond(w, http.StatusOK, strings.Repeat("x", 1<<20))
	default:
		respond(w, http.StatusNotFound, "not here")
	}
}

func main() {
	// A ServeMux would redirect paths with dot segments.
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(handle)))
}
