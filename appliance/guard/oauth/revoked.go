package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"edgepost/appliance/guard/jwt"
)

// Bounds of the list. What does not fit ends more than was asked for, never less.
const (
	maxRevoked  = 1024 // single tokens; one more ends all of its subject
	maxSubjects = 4096 // one more ends everybody's
)

// everybody stands for all subjects; no principal is called so.
const everybody = "*"

// revokedToken is a token that was ended before its time.
type revokedToken struct {
	ID    string `json:"id"`
	Until int64  `json:"until"` // unix: it has ended by itself then
}

// ended is a subject whose tokens that were issued at Before, or earlier, are ended.
type ended struct {
	Subject string `json:"subject"`
	Before  int64  `json:"before"` // unix
	Until   int64  `json:"until"`  // unix: all of them have ended by themselves then
}

type revokedFile struct {
	Format   int            `json:"format"`
	Tokens   []revokedToken `json:"tokens"`
	Subjects []ended        `json:"subjects"`
}

// revocations is the list and the file that keeps it. The server's mutex guards it.
//
// Invariant: what is in tokens and subjects is in the file.
type revocations struct {
	path     string
	tokens   map[string]int64
	subjects map[string]ended
}

// openRevoked reads the list. The error says that it cannot be read: then nothing that was issued may hold.
func openRevoked(path string) (*revocations, error) {
	r := &revocations{path: path, tokens: make(map[string]int64), subjects: make(map[string]ended)}
	b, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	var f revokedFile
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err == nil && f.Format != fileFormat {
		err = fmt.Errorf("%s has format %d; this version reads %d", path, f.Format, fileFormat)
	}
	if err != nil {
		return r, err
	}
	for _, t := range f.Tokens {
		r.tokens[t.ID] = t.Until
	}
	for _, s := range f.Subjects {
		r.subjects[s.Subject] = s
	}
	return r, nil
}

// has reports whether the list ends a token.
func (r *revocations) has(id, subject string, issued time.Time) bool {
	if _, ok := r.tokens[id]; ok && id != "" {
		return true
	}
	return issued.Unix() <= r.before(subject)
}

// before is up to when a subject's tokens are ended, in unix seconds.
func (r *revocations) before(subject string) int64 {
	return max(r.subjects[subject].Before, r.subjects[everybody].Before)
}

// end ends one token, until its own end; without an id, all of the subject. latest is the highest iat that was given out.
func (r *revocations) end(id, subject string, until, now time.Time, latest int64) error {
	tokens, subjects := make(map[string]int64, len(r.tokens)+1), make(map[string]ended, len(r.subjects)+1)
	for k, t := range r.tokens {
		if t > now.Unix() {
			tokens[k] = t
		}
	}
	for k, s := range r.subjects {
		if s.Until > now.Unix() {
			subjects[k] = s
		}
	}
	if id != "" && len(tokens) < maxRevoked {
		tokens[id] = until.Unix() + 1
	} else {
		if _, known := subjects[subject]; !known && len(subjects) >= maxSubjects {
			subject = everybody
		}
		// After an earlier end of this second the subject's next token is of the next one.
		old := r.before(subject)
		before := max(now.Unix(), old, min(old+1, latest))
		if subject == everybody {
			before = max(before, latest)
		}
		subjects[subject] = ended{subject, before, before + int64(keepRetired/time.Second)}
	}
	return r.store(tokens, subjects)
}

func (r *revocations) store(tokens map[string]int64, subjects map[string]ended) error {
	f := revokedFile{Format: fileFormat, Tokens: []revokedToken{}, Subjects: []ended{}}
	for id, until := range tokens {
		f.Tokens = append(f.Tokens, revokedToken{id, until})
	}
	for _, s := range subjects {
		f.Subjects = append(f.Subjects, s)
	}
	b, err := json.Marshal(&f)
	if err != nil {
		return err
	}
	if err := jwt.WriteFile(r.path, append(b, '\n')); err != nil {
		return err
	}
	r.tokens, r.subjects = tokens, subjects
	return nil
}
