package queue

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/oklog/ulid/v2"
)

// clockBits is how much of an id's key counts within one millisecond.
const clockBits = 15

// idKey returns the first 63 bits of an id: 48 of time, 15 that count. They alone tell the ids of one data directory
// apart, in the order in which they were made, and fit a signed 64-bit column.
func idKey(id ulid.ULID) int64 {
	return int64(binary.BigEndian.Uint64(id[:8]) >> 1)
}

// idFromKey returns the id whose key is k. The other 65 bits follow from the key, so that a key is all that need be
// stored, and are spread, so that two ids look as different as ULIDs usually do.
func idFromKey(k int64) ulid.ULID {
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

// parseID reads an id as people paste it: in either case of letters.
func parseID(s string) (ulid.ULID, bool) {
	id, err := ulid.ParseStrict(s)
	return id, err == nil
}

// hasKey reports whether id follows from its key. Where it does not, no delivery that is stored by its key alone has it.
func hasKey(id ulid.ULID) bool { return id == idFromKey(idKey(id)) }

// idOf returns the id of a delivery that an engine returned.
func idOf(d *Delivery) ulid.ULID {
	id, _ := parseID(d.ID)
	return id
}

// keyAt returns the least key that an id made at t can have.
func keyAt(t time.Time) int64 { return max(0, t.UnixMilli()) << clockBits }

// idSource makes ids that only ever grow, also when the clock is set back. It is not safe for concurrent use.
type idSource struct {
	last ulid.ULID
	// random is what the ids of several processes differ in; nil where one process makes them all, and an id is to follow
	// from its key.
	random *ulid.MonotonicEntropy
}

// next returns a new id for a delivery received at now.
func (s *idSource) next(now time.Time) ulid.ULID {
	if s.random == nil {
		s.last = idFromKey(max(idKey(s.last)+1, keyAt(now)))
		return s.last
	}
	ms := max(s.last.Time(), uint64(max(0, now.UnixMilli())))
	id, err := ulid.New(ms, s.random)
	for err != nil { // the random part can't grow any more within this millisecond
		ms++
		id, err = ulid.New(ms, s.random)
	}
	s.last = id
	return id
}

// keyHash is what stands for the key of a series or burst in memory and on disk.
func keyHash(key string) int64 {
	sum := sha256.Sum256([]byte(key))
	return max(1, int64(binary.BigEndian.Uint64(sum[:])>>1))
}
