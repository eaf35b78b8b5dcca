package jwt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"edgepost/appliance/guard/oauthclient"
)

// Times of a [Remote].
const (
	DefaultMaxStale = 7 * 24 * time.Hour // a week without the uplink is a holiday, not an attack
	fetchTimeout    = 5 * time.Second
	fetchEvery      = time.Hour   // a key that its issuer withdrew stays good no longer, while it can be reached
	fetchAtMost     = time.Minute // also when tokens with unknown keys pour in
)

// RemoteOptions configure a [Remote]. URL is required.
type RemoteOptions struct {
	URL      string        // https://…; redirects are not followed
	CAFile   string        // PEM file of the authorities that may vouch for the server; "": the system's
	Path     string        // of the copy on disk; "": none is kept
	MaxStale time.Duration // how long keys are good that cannot be fetched again; 0: 7 days

	// Age is a clock that is never set and goes on over restarts; nil: the time since the start.
	Age func() time.Duration
	// Since is how long ago an age was that was kept; nil: the difference.
	Since func(kept time.Duration) time.Duration
	// Now is the time for the server's certificate; nil: time.Now.
	Now func() time.Time
	Log *slog.Logger // nil: none
}

// Remote is the key set at an address, with a copy on disk for the times when the address cannot be
// reached. It asks every hour while [Remote.Run] runs, and when a token names an unknown key, but
// never more than once a minute. It is safe for concurrent use.
//
// Invariant: set came whole over verified HTTPS at age fetched, in this process or in an earlier
// one that used the same URL.
type Remote struct {
	o      RemoteOptions
	client *http.Client

	mu      sync.Mutex
	set     *KeySet
	doc     []byte        // that set was made of
	fetched time.Duration // on Age
	asked   time.Time     // monotonic; zero: not yet
	busy    chan struct{} // closed when the fetch that runs is over; nil when none runs
	failing bool          // the last fetch failed; logged once
}

// saved is the copy on disk.
type saved struct {
	URL     string          `json:"url"`
	Fetched int64           `json:"fetched"` // ns, on Age
	Set     json.RawMessage `json:"jwks"`
}

// NewRemote reads the copy on disk, if there is one. It does not ask the address yet.
func NewRemote(o RemoteOptions) (*Remote, error) {
	if o.MaxStale <= 0 {
		o.MaxStale = DefaultMaxStale
	}
	if o.Age == nil {
		start := time.Now()
		o.Age = func() time.Duration { return time.Since(start) }
	}
	if o.Since == nil {
		o.Since = func(kept time.Duration) time.Duration { return o.Age() - kept }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	client, err := oauthclient.NewHTTP(o.CAFile, o.Now)
	if err != nil {
		return nil, err
	}
	r := &Remote{o: o, client: client}
	r.load()
	return r, nil
}

// load takes over the copy on disk. One that is damaged, or of another address, is as good as none.
func (r *Remote) load() {
	if r.o.Path == "" {
		return
	}
	b, err := readSmall(r.o.Path, 2*MaxKeySet)
	var s saved
	if err != nil || json.Unmarshal(b, &s) != nil || s.URL != r.o.URL {
		return
	}
	set, err := ParseKeySet(s.Set)
	if err != nil {
		return
	}
	r.set, r.doc, r.fetched = set, s.Set, time.Duration(s.Fetched)
}

// Keys returns the keys, nil when there are none, or none young enough.
func (r *Remote) Keys() *KeySet {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set == nil || r.o.Since(r.fetched) > r.o.MaxStale {
		return nil
	}
	return r.set
}

// Refresh asks the address again unless that was done within the last minute. Who comes while a
// fetch runs waits for that one.
func (r *Remote) Refresh(ctx context.Context) {
	r.mu.Lock()
	if busy := r.busy; busy != nil {
		r.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
		}
		return
	}
	if !r.asked.IsZero() && time.Since(r.asked) < fetchAtMost {
		r.mu.Unlock()
		return
	}
	busy := make(chan struct{})
	r.busy, r.asked = busy, time.Now()
	r.mu.Unlock()
	err := r.fetch(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = nil
	close(busy)
	if err != nil && !r.failing {
		r.o.Log.Warn("keys of an issuer cannot be fetched; those at hand are used while they are young enough", "url", r.o.URL, "error", err)
	}
	r.failing = err != nil
}

// Run keeps the keys fresh until ctx is done.
func (r *Remote) Run(ctx context.Context) {
	for {
		r.Refresh(ctx)
		r.mu.Lock()
		wait := fetchEvery
		if r.failing {
			wait = fetchAtMost
		}
		r.mu.Unlock()
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

func (r *Remote) fetch(ctx context.Context) error {
	// A client that goes away must not end a fetch for which others wait.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.o.URL, nil)
	if err != nil {
		return err
	}
	if req.URL.Scheme != "https" {
		return errors.New("keys are only fetched by HTTPS")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the answer is %s, not 200 OK; redirects are not followed", res.Status)
	}
	doc, err := io.ReadAll(io.LimitReader(res.Body, MaxKeySet+1))
	if err != nil {
		return err
	}
	set, err := ParseKeySet(doc)
	if err != nil {
		return err
	}
	return r.keep(set, doc)
}

// keep takes over what was fetched and writes the copy.
func (r *Remote) keep(set *KeySet, doc []byte) error {
	age := r.o.Age()
	r.mu.Lock()
	if !bytes.Equal(doc, r.doc) { // else the set, and with it the cache of tokens, stays
		r.set, r.doc = set, doc
	}
	r.fetched = age
	r.mu.Unlock()
	if r.o.Path == "" {
		return nil
	}
	b, err := json.Marshal(&saved{URL: r.o.URL, Fetched: int64(age), Set: doc})
	if err != nil {
		return err
	}
	if err := WriteFile(r.o.Path, b); err != nil {
		return fmt.Errorf("keep a copy: %w", err)
	}
	return nil
}

// File is the key set in a file, read again when the file changes. It is safe for concurrent use.
type File struct {
	path string

	mu    sync.Mutex
	set   *KeySet
	stamp time.Time // modification time and size of what was read
	size  int64
	asked time.Time // when it was last looked at
}

// lookEvery is how long a change of the file may go unnoticed.
const lookEvery = 5 * time.Second

// NewFile reads a file with a JWK Set.
func NewFile(path string) (*File, error) {
	f := &File{path: path}
	return f, f.read()
}

// Keys returns the keys as the file has them. A file that became unreadable or wrong leaves none.
func (f *File) Keys() *KeySet {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.asked) >= lookEvery {
		f.lookLocked()
	}
	return f.set
}

// Refresh looks at the file at once.
func (f *File) Refresh(context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookLocked()
}

func (f *File) lookLocked() {
	f.asked = time.Now()
	info, err := os.Stat(f.path)
	switch {
	case err != nil:
		f.set, f.stamp = nil, time.Time{}
	case !info.ModTime().Equal(f.stamp) || info.Size() != f.size:
		if f.readLocked() != nil {
			f.set = nil
		}
	}
}

func (f *File) read() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = time.Now()
	return f.readLocked()
}

func (f *File) readLocked() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	f.stamp, f.size = info.ModTime(), info.Size()
	doc, err := readSmall(f.path, MaxKeySet)
	if err != nil {
		return err
	}
	set, err := ParseKeySet(doc)
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	f.set = set
	return nil
}

// readSmall reads a file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return b, err
}

// WriteFile replaces a file that only its owner may read; after a crash it is the old or the new one.
func WriteFile(path string, b []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".new-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails once it is renamed
	_, err = tmp.Write(b)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
