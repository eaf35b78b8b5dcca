// Package wal is edgepost's write-ahead log: opaque records with sequence numbers, on a disk that may lose power, fill
// up, fail or rot. It uses github.com/tidwall/wal as the writer of one append-only file and does everything else itself,
// because that log, used as it is meant to be, has no checksums, does not open after a torn write, goes on after a failed
// one, swallows a failed fsync and panics under concurrent reads.
//
// # What it promises
//
//   - Durable: done and Committed are called after fdatasync of the file and fsync of the directories it needs.
//   - Atomic: the records of one Append are in one frame; after a crash all of them are there or none.
//   - Ordered: numbers ascend in the order of commits. They have gaps: each start skips Options.Skip numbers, and those of
//     a frame whose write failed are skipped. A number that anyone has seen is never used for another record, also not
//     when the disk lost what it had said was synced (up to Skip records of it).
//   - Never a wrong byte: what is returned has passed a CRC-32C over header and payload, seeded per generation.
//   - Bounded loss: a damaged place costs the frames it touches and no others; a flipped bit costs one frame at most. Losses
//     lists the lost numbers: never too few; too many only where the head of a generation is damaged as well, or in a cold
//     generation (numbers that had been cleaned away).
//     A damaged last frame of a generation that was open at a crash cannot be told from a write that the crash tore: it is
//     copied to lost/ and logged as an unfinished write, and not listed. That takes damage within Options.Quiet after
//     the commit: then a mark follows it.
//   - It opens: damage, torn writes, interrupted cleaning, missing or copied files are no errors of Open.
//   - It resumes: after a failed write or fsync the same records go to a new file, once; if that fails too, appends are
//     refused (ErrFull, ErrFailed) and reads go on; writing is tried again by itself at least every second.
//   - After ErrFull or ErrFailed a record is as a rule not stored. If power fails before the log is healthy again it may
//     be found by the next Open, under a number of its own.
//   - Riders (Options.Collect) survive all of that in memory, and are written once.
//
// Memory: 16 bytes of index for each frame, in a sealed generation for each 16 KiB of them, the frame cache, and one generation, which tidwall/wal keeps while it writes it.
//
// # On disk
//
// A log is a directory:
//
//	lock              flock of the process that has the log open; its text marks the directory as a log
//	g00000042/        a complete or open generation, a tidwall/wal log: 00000000000000000001, and more files for long sides
//	t00000043/        a side (cold generation or snapshot) that is not complete; removed by Open
//	x00000007/        a generation that is being removed; removed by Open
//	reserve           noise that is deleted when the disk is full, so that cleaning has space to work in
//	lost/             copies of damaged places, at most 1 MiB, for people
//
// Generations are never written again once they are finished: every start, every error and every full generation begins a
// new one. So a torn tail is never repaired in place, and no nonce is used twice (see Encryption below).
//
// A generation is a sequence of entries. An entry is tidwall/wal's: a uvarint length and one frame. One frame is one commit.
// Zeros behind the last entry were written ahead and mean the end. The reader does not need the uvarint: it recognises a
// frame by magic, salt, its own offset and the header's CRC, and finds the next one in the same way behind a damaged place.
// A frame inside a payload is none: it does not know the salt.
//
// The frame header, 80 bytes, little endian:
//
//	 0  4  magic E5 57 41 4C
//	 4  1  version, 1
//	 5  1  type: 1 head, 2 data, 3 seal, 4 mark
//	 6  1  kind of the generation: 1 main, 2 cold, 3 snapshot
//	 7  1  flags: 1 = records have their own stamps (cold)
//	 8  1  cipher suite: 0 plain, 1 AES-256-GCM, 2 XChaCha20-Poly1305; on heads and seals that of the generation
//	 9  1  compression, 0 = none
//	10  2  which key, 0 = none
//	12  4  number of records
//	16  4  length of the payload as stored
//	20  4  length of the payload when decrypted
//	24  4  offset of the entry in the generation
//	28  8  salt of the generation, random
//	36  8  number of the first record (head and mark: the next number; seal: the last number and one)
//	44  8  number of the last record, 0 if there is none
//	52  8  wall clock, unix nanoseconds, 0 = not trusted
//	60  8  age clock, nanoseconds
//	68  4  boot number
//	72  4  CRC-32C of the salt and the stored payload
//	76  4  CRC-32C of the salt and bytes 0 to 75 of the header
//
// Payloads (uvarint, and varint for signed differences, as in encoding/binary):
//
//	data, main        the length of each record; then the records. Record i has number first+i
//	data, snapshot    the same without numbers
//	data, cold        for each record: distance to the number before, length and, if flagged, 0 or 1 with the differences of
//	                  wall and age clock and the boot number; then the records
//	head              id, id of the main generation before, numbers skipped, count and ids of the last two snapshots, count
//	                  and list of (id, first, last, synced length, salt as 8 bytes) of older main generations without a seal;
//	                  zeros up to 512 bytes of entry
//	seal              first, last, number of records, first and last stamp, count and ids of the generations it replaces,
//	                  count and index of the data frames (differences of offset and first number, number of records); then,
//	                  at the end of the file, the seal's offset in 4 bytes and "SEAL"
//	mark              nothing
//
// # How damage is told from a crash
//
// One frame is written at a time, after the one before was synced. So a bad frame with a valid one behind it had been
// acknowledged: it is damage, its numbers follow from its neighbours, and the scan goes on at the next valid header. At the
// end of a sealed generation the seal says how much there was; of an unsealed one the head of any later generation does, and
// bytes behind that length are ignored even if they look like a frame (the write was reported as failed). Only the
// newest main generation has neither; a bad frame at its end is a torn write. So that this is about the last moments only,
// a log that falls quiet writes a mark, a frame without records, behind the last one. A start reads heads and seals only, and the
// whole of generations without a seal, which are those of a crash or an error.
//
// A side becomes visible by the rename of its directory, after its seal and all its files are synced. A cold generation names
// those it replaces in its seal; Open removes what is left of them, or the cold one if it has been damaged and they are still
// whole. The newest main generation is never removed, because its head knows which numbers have been used.
//
// # Encryption
//
// With Options.Encryption the payload of every data frame is encrypted: records of main and cold generations, and snapshots.
// Heads, seals and frame headers are not: so without the key anyone who has the disk can see how many records there were,
// when, in which commits and how large those were, and which generations replaced which; no record, no part of one.
//
//	aes-256-gcm          ciphertext and 16 bytes of tag; the nonce is 64 zero bits and the frame's offset (big endian)
//	xchacha20-poly1305   24 random bytes of nonce, ciphertext, 16 bytes of tag
//
// The key of a generation comes from Keys.Derive with "edgepost wal 1", 0, the log's name, 0, the suite, and id and salt of
// the generation in 8 bytes each (little endian). Authenticated with the payload are the log's name, 0, the generation's id
// in 8 bytes and bytes 0 to 71 of the header. So a frame reads in its own place only: not at another offset, not in another
// generation or log, not with another time or number.
//
// A nonce is used once because a generation is written once, by one process, and offsets in it only ascend; a frame that was
// not stored goes to a new generation, which has a salt and therefore a key of its own, as has one that is begun by the copy
// of a disk on another machine.
//
// The checksums are over what is stored, so damage is found, told from a crash and repaired without the key. A frame whose
// checksum is right and that cannot be decrypted is ErrForged: never damage, so that a wrong key costs no record. What an
// attacker with write access to the disk can do: remove records or the newest of them, bring an old state of the whole log
// back, and add plain generations (reports count what is plain). He cannot read, change, move or forge an encrypted record.
//
// Encryption can be switched on, off, and to other keys and suites at each start: it holds for the generations begun from
// then on, and cleaning carries old records into new ones.
//
// # Errors
//
// A generation whose write or fsync failed is finished: a second fsync would succeed and hide the loss. Its records go
// to a new generation under new numbers. On a second failure appends are refused. If space is what is missing the reserve
// file goes: its space is for riders, urgent appends and sides; publishers are refused until the file can be written again.
// A log without riders keeps the file until an urgent append or a side needs it.
//
// # Speed
//
// Commits are grouped: while one is synced the next queue up, and if the last frames had several waiters the
// committer waits for as many again, at most eight times Options.Linger. Where a file system overwrites in place (ext4, XFS)
// and frames are small, zeros are written ahead, up to 256 KiB, and synced with a frame, so that the following fdatasyncs
// need no journal commit for the file's size. Measured on ext4 with blocks of 4 KiB, records of 256 bytes, device bytes per
// payload byte at 1, 16, 64 and 256 publishers: 69, 7.5, 2.7, 1.5 appending; 19, 3.5, 2.4, 2.0 with zeros ahead, at twice to
// six times the rate up to 64. (See zeroBelow.) Where frames are large, the blocks of the whole generation are reserved
// instead (fallocate, behind the file's end): the fdatasync of a frame then writes 16 KiB beyond it and not 24. What is not
// used goes back at the generation's end or, after a crash, at the next Open; Size does not count it.
package wal
