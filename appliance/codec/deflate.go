package codec

import (
	"encoding/binary"
	"hash/adler32"
	"hash/crc32"
	"strings"

	"github.com/klauspost/compress/flate"
)

// Deflate appends src in the content coding gzip or deflate (which is zlib) to dst. It keeps no state
// between calls, so it costs a few KiB of memory, not the 0.8 MiB of an ordinary writer. Any other encoding appends src
// as it is.
func Deflate(encoding string, dst, src []byte) []byte {
	w := appender{dst}
	switch {
	case strings.EqualFold(encoding, Gzip):
		// RFC 1952 §2.3: deflate, no flags, no time, fastest, unknown system.
		w.b = append(w.b, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255)
		_ = flate.StatelessDeflate(&w, src, true, nil) // an appender does not fail
		w.b = binary.LittleEndian.AppendUint32(w.b, crc32.ChecksumIEEE(src))
		return binary.LittleEndian.AppendUint32(w.b, uint32(len(src)))
	case strings.EqualFold(encoding, Zlib):
		w.b = append(w.b, 0x78, 0x01) // RFC 1950 §2.2: deflate, 32 KiB window, fastest
		_ = flate.StatelessDeflate(&w, src, true, nil)
		return binary.BigEndian.AppendUint32(w.b, adler32.Checksum(src))
	}
	return append(dst, src...)
}

type appender struct{ b []byte }

func (w *appender) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}
