package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"edgepost/appliance/bridge/mapping"
)

// httpSink is a child: a web server that reads what is posted and answers 204, until its standard input ends.
func httpSink(arguments) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { // the process ends with it
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusNoContent)
		}))
	}()
	if err := answer(l.Addr().String()); err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
	}
	return nil
}

// httpClient posts events.
type httpClient struct {
	url  string
	tr   *http.Transport
	http *http.Client
}

func openHTTP(_ context.Context, addr string) (client, error) {
	tr := &http.Transport{MaxIdleConnsPerHost: 32}
	return &httpClient{"http://" + addr, tr, &http.Client{Transport: tr, Timeout: grace}}, nil
}

func (c *httpClient) prepare(context.Context, string) error { return nil }

func (c *httpClient) send(w *mapping.Wire, answered func(error)) error {
	r, err := http.NewRequest(http.MethodPost, c.url, bytes.NewReader(w.Body))
	if err != nil {
		return err
	}
	for _, h := range w.Headers {
		r.Header.Set("Ce-"+h.Key, h.Value)
	}
	go func() {
		a, err := c.http.Do(r)
		if err == nil {
			_, _ = io.Copy(io.Discard, a.Body)
			a.Body.Close()
			if a.StatusCode != http.StatusNoContent {
				err = fmt.Errorf("the server answers %s", a.Status)
			}
		}
		answered(err)
	}()
	return nil
}

func (c *httpClient) receive(context.Context, string, func()) error { return nil }

func (c *httpClient) close() { c.tr.CloseIdleConnections() }
