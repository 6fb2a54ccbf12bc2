package queue

import (
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

// parseID reads an id as people paste it: in either case of letters, and only if this package could have made it.
func parseID(s string) (ulid.ULID, bool) {
	id, err := ulid.ParseStrict(s)
	if err != nil || id != idFromKey(idKey(id)) {
		return ulid.ULID{}, false
	}
	return id, true
}

// idOf returns the id of a delivery that an engine returned.
func idOf(d *Delivery) ulid.ULID {
	id, _ := parseID(d.ID)
	return id
}

// keyAt returns the least key that an id made at t can have.
func keyAt(t time.Time) int64 { return max(0, t.UnixMilli()) << clockBits }

// idSource makes ids that only ever grow, also when the clock is set back. It is not safe for concurrent use.
type idSource struct{ last int64 }

// next returns a new id for a delivery received at now.
func (s *idSource) next(now time.Time) ulid.ULID {
	s.last = max(s.last+1, keyAt(now))
	return idFromKey(s.last)
}
