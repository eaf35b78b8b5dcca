package codec

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"

	"edgepost/appliance/message"
)

// Content codings (RFC 9110 §8.4.1).
const (
	Gzip     = "gzip"
	Zlib     = "deflate"
	Identity = "identity"
)

// Inflate returns a reader of r's decoded content. encoding is a Content-Encoding: gzip (or x-gzip), deflate
// (zlib as RFC 9110 says, and raw deflate as some clients send), identity or "". Reading more than
// limit decoded bytes fails with too-large, damaged data with bad-request; an unknown encoding fails
// here, with bad-media-type. Errors of r itself pass through. Close gives the decoder back to a
// pool and does not close r; afterwards Read fails.
func Inflate(encoding string, r io.Reader, limit int64) (io.ReadCloser, error) {
	limit = max(limit, 0)
	in := &inflater{limit: limit, left: limit, src: source{r: r}}
	switch {
	case encoding == "" || strings.EqualFold(encoding, Identity):
		in.kind = Identity
	case strings.EqualFold(encoding, Gzip), strings.EqualFold(encoding, "x-gzip"):
		in.kind = Gzip
	case strings.EqualFold(encoding, Zlib):
		in.kind = Zlib
	default:
		return nil, message.Problemf(message.CodeBadMediaType, "the content encoding %.40q is not supported; use gzip, deflate or none", encoding)
	}
	return in, nil
}

// source remembers the error of the reader below, which is not the data's fault.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// inflater decodes lazily: the first Read takes a decoder.
type inflater struct {
	kind        string
	src         source
	limit, left int64 // left is limit minus what was read
	err         error // sticky
	z           io.Reader
	dec         *decoder
}

// decoder is what a pool keeps: the buffered reader and the two decoders behind it, some 44 KiB.
type decoder struct {
	in   *bufio.Reader
	gz   *gzip.Reader
	raw  io.ReadCloser
	zlib io.ReadCloser
}

func (in *inflater) Read(p []byte) (int, error) {
	if in.err != nil {
		return 0, in.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if in.z == nil {
		if in.err = in.open(); in.err != nil {
			return 0, in.err
		}
	}
	// One byte more than is left tells "exactly the limit" from "too large".
	if int64(len(p)) > in.left {
		p = p[:in.left+1]
	}
	n, err := in.z.Read(p)
	if int64(n) > in.left {
		n = int(in.left)
		err = message.Problemf(message.CodeTooLarge, "the content has more than %d bytes after decoding", in.limit)
	}
	in.left -= int64(n)
	if errors.Is(err, io.EOF) && in.kind == Zlib {
		if _, more := in.dec.in.ReadByte(); more == nil {
			err = errors.New("more bytes behind the end")
		}
	}
	in.err = in.judge(err)
	return n, in.err
}

func (in *inflater) judge(err error) error {
	switch {
	case err == nil, errors.Is(err, io.EOF), message.ProblemOf(err) != nil:
		return err
	case in.src.err != nil:
		return in.src.err
	case in.kind == Identity:
		return err
	}
	return message.Problemf(message.CodeBadRequest, "the content is not valid %s: %v", in.kind, err)
}

// Close is safe to call twice.
func (in *inflater) Close() error {
	if in.dec != nil {
		in.dec.in.Reset(nil)
		decoders.Put(in.dec)
	}
	in.dec, in.z, in.err = nil, nil, errors.New("read of closed content")
	return nil
}

// decoders is the one pool of the process: 44 KiB a request would be the garbage collector's main work.
var decoders = sync.Pool{New: func() any { return &decoder{in: bufio.NewReaderSize(nil, 4<<10)} }}

func (in *inflater) open() (err error) {
	if in.kind == Identity {
		in.z = &in.src
		return nil
	}
	d, _ := decoders.Get().(*decoder)
	in.dec = d
	d.in.Reset(&in.src)
	head, _ := d.in.Peek(2)
	switch {
	case in.kind == Gzip && d.gz == nil:
		d.gz, err = gzip.NewReader(d.in)
		in.z = d.gz
	case in.kind == Gzip:
		err = d.gz.Reset(d.in)
		in.z = d.gz
	case isZlib(head) && d.zlib == nil:
		d.zlib, err = zlib.NewReader(d.in)
		in.z = d.zlib
	case isZlib(head):
		err = d.zlib.(zlib.Resetter).Reset(d.in, nil)
		in.z = d.zlib
	case d.raw == nil:
		d.raw = flate.NewReader(d.in)
		in.z = d.raw
	default:
		err = d.raw.(flate.Resetter).Reset(d.in, nil)
		in.z = d.raw
	}
	if errors.Is(err, io.EOF) { // nothing at all
		err = io.ErrUnexpectedEOF
	}
	return in.judge(err)
}

// isZlib reports whether the content starts like a zlib stream (RFC 1950 §2.2). A raw deflate
// stream can start so only with a stored or reserved block that no encoder writes.
func isZlib(head []byte) bool {
	return len(head) == 2 && head[0]&0x0f == 8 && head[0]>>4 <= 7 && (uint(head[0])<<8|uint(head[1]))%31 == 0
}
