package store

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// ClockBits is how many bits of an id's key count ids within one millisecond.
const ClockBits = 15

// Key returns the first 63 bits of an id: 48 of time and 15 that count. Within one data directory each id has another key, keys
// grow as ids are made, and they fit a signed 64-bit column.
func Key(id ulid.ULID) int64 {
	return int64(binary.BigEndian.Uint64(id[:8]) >> 1)
}

// FromKey returns the id whose key is k. The other 65 bits are computed from the key, so that only the key need be stored. They
// are mixed, so that two ids look as different as ULIDs usually do.
func FromKey(k int64) ulid.ULID {
	var id ulid.ULID
	tail := mix(uint64(k))
	binary.BigEndian.PutUint64(id[:8], uint64(k)<<1|tail>>63)
	binary.BigEndian.PutUint64(id[8:], mix(tail))
	return id
}

// mix is the finisher of the SplitMix64 generator: each bit of x changes about half of the result's bits.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// ParseID reads an id as people paste it: in either case of letters.
func ParseID(s string) (ulid.ULID, bool) {
	id, err := ulid.ParseStrict(s)
	return id, err == nil
}

// MaybeID reports whether q can be a part of an id.
func MaybeID(q string) bool {
	return len(q) <= ulid.EncodedSize && strings.Trim(strings.ToUpper(q), ulid.Encoding) == ""
}

// HasKey reports whether FromKey makes id from its key. If not, no delivery that is stored by its key alone has this id.
func HasKey(id ulid.ULID) bool { return id == FromKey(Key(id)) }

// IDOf returns the id of a delivery that an engine returned.
func IDOf(d *Delivery) ulid.ULID {
	id, _ := ParseID(d.ID)
	return id
}

// KeyAt returns the least key that an id made at t can have.
func KeyAt(t time.Time) int64 { return max(0, t.UnixMilli()) << ClockBits }

// IDSource makes ids that only ever grow, also when the clock is set back. It is not safe for concurrent use.
type IDSource struct {
	Last ulid.ULID
	// Random makes the ids of several processes differ. nil: one process makes all ids, and makes them with FromKey.
	Random *ulid.MonotonicEntropy
}

// Next returns a new id for a delivery received at now.
func (s *IDSource) Next(now time.Time) ulid.ULID {
	if s.Random == nil {
		s.Last = FromKey(max(Key(s.Last)+1, KeyAt(now)))
		return s.Last
	}
	ms := max(s.Last.Time(), uint64(max(0, now.UnixMilli())))
	id, err := ulid.New(ms, s.Random)
	for err != nil { // the random part can't grow any more within this millisecond
		ms++
		id, err = ulid.New(ms, s.Random)
	}
	s.Last = id
	return id
}

// Hash returns the number that stands for a serial key, a burst key or an endpoint in memory and on disk.
func Hash(key string) int64 {
	sum := sha256.Sum256([]byte(key))
	return max(1, int64(binary.BigEndian.Uint64(sum[:])>>1))
}

// NewToken returns a number that no other claim has. The caller may use the next few numbers as tokens too.
func NewToken() int64 {
	var b [8]byte
	rand.Read(b[:]) // never fails, as its documentation says
	return int64(binary.BigEndian.Uint64(b[:])>>2 | 1)
}
