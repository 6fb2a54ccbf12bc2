// Package salvage reads SQLite databases that may be damaged, page by page. It changes nothing.
//
// SQLite's own extensions for that (sqlite3_recover, sqlite_dbdata) are not in modernc.org/sqlite. So this package reads the pages itself,
// as https://www.sqlite.org/fileformat2.html describes them.
package salvage

import (
	"bytes"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"

	"github.com/hubhook/hubhook/internal/queue/store"
)

const (
	DefaultPageSize = 4096
	fileHeaderSize  = 100
	LogHeaderSize   = 32
	FrameHeaderSize = 24
	LogFrameSize    = FrameHeaderSize + DefaultPageSize // bytes of one page in the log
	// lockByte is the byte that SQLite locks. The page with that byte is never used.
	lockByte = 1 << 30
)

// Kinds of pages, by their first byte.
const (
	interiorIndexPage = 0x02
	interiorTablePage = 0x05
	leafIndexPage     = 0x0a
	leafTablePage     = 0x0d
)

// Kinds of pages, by their entry in the pointer map. The entry also has the page's parent.
const (
	RootPage          = 1
	freePage          = 2
	FirstOverflowPage = 3 // the parent is the page with the row
	NextOverflowPage  = 4 // the parent is the previous overflow page
	treePage          = 5
	maxKind           = treePage
)

// File reads a SQLite database page by page, including the committed pages in its write-ahead log. Any part may be damaged. A page that
// can't be read counts as damaged.
type File struct {
	db, log    *os.File            // log is nil if there is none
	header     []byte              // the file header of page 1; nil if it is damaged
	size       int                 // bytes of a page
	usable     int                 // bytes of a page that SQLite uses
	Count      uint32              // number of pages
	frames     map[uint32]int64    // offset in the log of the newest committed copy of a page
	stale      map[uint32]bool     // pages whose newest copy in the log is damaged, so that only an older one can be read
	LogDamaged bool                // a damaged frame has sound frames after it, or the log's header is damaged
	free       map[uint32]bool     // the pages of the free list; nil if the list is damaged
	maps       map[uint32][]byte   // pages of the pointer map that were read; nil for damaged ones
	BadPages   map[uint32]struct{} // damaged pages of the database, as far as they were read
}

// Open opens the database at path, with the write-ahead log beside it if there is one.
func Open(path string) (_ *File, err error) {
	p := &File{maps: map[uint32][]byte{}, BadPages: map[uint32]struct{}{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if p.db, err = os.Open(path); err != nil {
		return nil, err
	}
	if p.log, err = os.Open(path + "-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	info, err := p.db.Stat()
	if err != nil {
		return nil, err
	}
	p.size = DefaultPageSize
	if h := make([]byte, fileHeaderSize); p.readFull(p.db, h, 0) {
		if size, ok := headerPageSize(h); ok {
			p.size = size
		}
	}
	p.usable = p.size
	inLog := p.readLog()
	if first := p.Page(1); first != nil {
		if size, ok := headerPageSize(first); ok && size == p.size {
			p.header = bytes.Clone(first[:fileHeaderSize])
			p.usable = p.size - int(p.header[20])
		}
	}
	p.Count = uint32((info.Size() + int64(p.size) - 1) / int64(p.size))
	switch {
	case inLog > 0:
		p.Count = inLog
	case p.header != nil && bytes.Equal(p.header[24:28], p.header[92:96]):
		p.Count = binary.BigEndian.Uint32(p.header[28:])
	}
	p.free = p.freeList()
	return p, nil
}

// Close closes the files.
func (p *File) Close() error {
	var err error
	for _, f := range []*os.File{p.db, p.log} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// headerPageSize returns the page size in a file header. ok is false if h is no file header.
func headerPageSize(h []byte) (size int, ok bool) {
	size = int(binary.BigEndian.Uint16(h[16:]))
	if size == 1 {
		size = 1 << 16
	}
	ok = string(h[:16]) == "SQLite format 3\x00" && size >= 512 && size&(size-1) == 0 && int(h[20]) <= size-480 &&
		h[21] == 64 && h[22] == 32 && h[23] == 32
	return size, ok
}

// UserVersion returns PRAGMA user_version, 0 if it can't be read.
func (p *File) UserVersion() int {
	if p.header == nil {
		return 0
	}
	return int(int32(binary.BigEndian.Uint32(p.header[60:])))
}

func (p *File) readFull(f *os.File, b []byte, at int64) bool {
	n, err := f.ReadAt(b, at)
	return n == len(b) && (err == nil || errors.Is(err, io.EOF))
}

// Page returns the newest committed copy of a page, nil if it can't be read.
func (p *File) Page(n uint32) []byte {
	if n == 0 {
		return nil
	}
	b := make([]byte, p.size)
	if at, ok := p.frames[n]; ok {
		if p.readFull(p.log, b, at) {
			return b
		}
		return nil
	}
	if !p.readFull(p.db, b, int64(n-1)*int64(p.size)) {
		return nil
	}
	return b
}

// readLog finds the newest committed copy of each page in the write-ahead log. It returns how many pages the database had after the last
// commit, 0 if the log has no commit. SQLite reads a log up to the first damaged frame. readLog also reads the sound frames after it.
func (p *File) readLog() (pages uint32) {
	p.frames, p.stale = map[uint32]int64{}, map[uint32]bool{}
	if p.log == nil {
		return 0
	}
	header := make([]byte, LogHeaderSize)
	if !p.readFull(p.log, header, 0) {
		return 0
	}
	magic := binary.BigEndian.Uint32(header)
	var order binary.ByteOrder = binary.LittleEndian
	if magic&1 == 1 {
		order = binary.BigEndian
	}
	sum := logSum{}.add(order, header[:24])
	whole := magic&^1 == 0x377f0682 && sum == storedSum(header[24:])
	if whole {
		p.size = int(binary.BigEndian.Uint32(header[8:]))
		return p.readFrames(order, header[16:24], &sum)
	}
	// The header is damaged, so the salt comes from the first frame. The byte order depends on the machine that wrote the log, so both are
	// tried.
	first := make([]byte, FrameHeaderSize)
	if !p.readFull(p.log, first, LogHeaderSize) {
		return 0
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if pages = p.readFrames(order, first[8:16], nil); pages > 0 {
			p.LogDamaged = true
			return pages
		}
	}
	return 0
}

// readFrames reads the frames with the given salt. Frames from before the log last started over have another salt. sum is the checksum of
// the header, which the first frame's checksum continues; nil if it is not known.
func (p *File) readFrames(order binary.ByteOrder, salt []byte, sum *logSum) (pages uint32) {
	frame := make([]byte, FrameHeaderSize+p.size)
	pending := map[uint32]int64{}
	bad := false
	for at := int64(LogHeaderSize); p.readFull(p.log, frame, at); at += int64(len(frame)) {
		h := frame[:FrameHeaderSize]
		if !bytes.Equal(h[8:16], salt) {
			bad, sum = true, nil
			continue
		}
		stored := storedSum(h[16:])
		sound := sum != nil && sum.add(order, h[:8]).add(order, frame[FrameHeaderSize:]) == stored
		sum = &stored
		page := binary.BigEndian.Uint32(h)
		if !sound {
			bad, p.stale[page] = true, true
			continue
		}
		p.LogDamaged = p.LogDamaged || bad
		pending[page] = at + FrameHeaderSize
		delete(p.stale, page)
		if n := binary.BigEndian.Uint32(h[4:]); n > 0 {
			pages = n
			for page, at := range pending {
				p.frames[page] = at
			}
			clear(pending)
		}
	}
	return pages
}

// logSum is the checksum of a write-ahead log.
type logSum [2]uint32

func storedSum(b []byte) logSum {
	return logSum{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
}

func (s logSum) add(order binary.ByteOrder, b []byte) logSum {
	for ; len(b) >= 8; b = b[8:] {
		s[0] += order.Uint32(b) + s[1]
		s[1] += order.Uint32(b[4:]) + s[0]
	}
	return s
}

// freeList returns the pages of the free list, nil if any part of the list is damaged.
func (p *File) freeList() map[uint32]bool {
	if p.header == nil {
		return nil
	}
	free := map[uint32]bool{}
	take := func(n uint32) bool {
		if n < 2 || n > p.Count || free[n] {
			return false
		}
		free[n] = true
		return true
	}
	for trunk := binary.BigEndian.Uint32(p.header[32:]); trunk != 0; {
		b := p.Page(trunk)
		if b == nil || !take(trunk) {
			return nil
		}
		leaves := binary.BigEndian.Uint32(b[4:])
		if int64(leaves) > int64(p.usable/4-2) {
			return nil
		}
		for i := range int(leaves) {
			if !take(binary.BigEndian.Uint32(b[8+4*i:])) {
				return nil
			}
		}
		trunk = binary.BigEndian.Uint32(b)
	}
	if uint32(len(free)) != binary.BigEndian.Uint32(p.header[36:]) {
		return nil
	}
	return free
}

// mapPage returns the number of the page that has the pointer map's entry of page n.
func (p *File) mapPage(n uint32) uint32 {
	each := uint32(p.usable/5 + 1)
	at := (n-2)/each*each + 2
	if at == p.lockPage() {
		at++
	}
	return at
}

func (p *File) lockPage() uint32 { return uint32(lockByte/p.size + 1) }

// Kind returns the pointer map's entry of page n. kind is 0 if the entry is missing or damaged.
func (p *File) Kind(n uint32) (kind byte, parent uint32) {
	if n < 3 {
		return 0, 0
	}
	at := p.mapPage(n)
	m, known := p.maps[at]
	if !known {
		m = p.Page(at)
		if m != nil && !p.soundMap(at, m) {
			p.BadPages[at] = struct{}{}
			m = nil
		}
		p.maps[at] = m
	}
	if m == nil || n <= at {
		return 0, 0
	}
	e := m[5*(n-at-1):]
	return e[0], binary.BigEndian.Uint32(e[1:])
}

// soundMap reports whether all entries of a page of the pointer map are possible. Otherwise garbage could mark a page with rows as free.
func (p *File) soundMap(at uint32, m []byte) bool {
	for i := range p.usable / 5 {
		n := at + 1 + uint32(i)
		if n > p.Count {
			break
		}
		if n == p.lockPage() {
			continue
		}
		e := m[5*i:]
		parent := binary.BigEndian.Uint32(e[1:])
		if e[0] == 0 || e[0] > maxKind || parent > p.Count || (parent == 0) != (e[0] == RootPage || e[0] == freePage) {
			return false
		}
	}
	return true
}

// Liveness says whether the rows of a page are part of the database now.
type Liveness int

const (
	Live Liveness = iota
	Unsure
	NotLive
)

// Liveness returns whether the rows of page n are part of the database now. A free page may still have rows that were removed long ago.
func (p *File) Liveness(n uint32) Liveness {
	if n == p.lockPage() || n >= 2 && n == p.mapPage(n) {
		return NotLive
	}
	switch {
	case p.stale[n]:
		return Unsure
	case n == 1:
		return Live
	}
	switch kind, _ := p.Kind(n); {
	case kind == freePage:
		return NotLive
	case kind != 0:
		return Live
	case p.free == nil:
		return Unsure
	case p.free[n]:
		return NotLive
	}
	return Live
}

// Row is a row of a table or an entry of an index. An entry has no Key.
type Row struct {
	Key    int64
	Index  bool
	Values []driver.Value
}

// Rows calls found with each sound row of page n, completed from its overflow pages. It adds damaged pages to BadPages, and skips pages
// without rows.
func (p *File) Rows(n uint32, found func(Row) error) error {
	b := p.Page(n)
	kind, _ := p.Kind(n)
	if b == nil {
		p.BadPages[n] = struct{}{}
		return nil
	}
	h := b
	if n == 1 {
		h = b[fileHeaderSize:]
	}
	headerSize := 8
	switch h[0] {
	case interiorTablePage:
		return nil // it has keys only
	case interiorIndexPage:
		headerSize = 12
	case leafIndexPage, leafTablePage:
	default:
		if n == 1 || kind == RootPage || kind == treePage {
			p.BadPages[n] = struct{}{}
		}
		return nil
	}
	cells := int(binary.BigEndian.Uint16(h[3:]))
	if headerSize+2*cells > len(h) {
		p.BadPages[n] = struct{}{}
		return nil
	}
	for i := range cells {
		at := int(binary.BigEndian.Uint16(h[headerSize+2*i:]))
		r, ok := Row{}, at < p.usable
		if ok {
			r, ok = p.cell(n, h[0], b[at:p.usable])
		}
		if !ok {
			p.BadPages[n] = struct{}{}
			continue
		}
		if err := found(r); err != nil {
			return err
		}
	}
	return nil
}

// cell reads the cell of page n at the beginning of b.
func (p *File) cell(n uint32, kind byte, b []byte) (r Row, ok bool) {
	if r.Index = kind != leafTablePage; kind == interiorIndexPage {
		if len(b) < 4 {
			return r, false
		}
		b = b[4:]
	}
	size, used := varint(b)
	if used == 0 || size == 0 || size > store.MaxBody {
		return r, false
	}
	b = b[used:]
	if !r.Index {
		key, used := varint(b)
		if used == 0 {
			return r, false
		}
		r.Key, b = int64(key), b[used:]
	}
	payload, ok := p.payload(n, b, int(size), r.Index)
	if !ok {
		return r, false
	}
	r.Values, ok = record(payload)
	return r, ok
}

// payload returns the payload of a cell of page n. It begins in b, and continues in overflow pages if it is long.
func (p *File) payload(n uint32, b []byte, size int, index bool) ([]byte, bool) {
	most := p.usable - 35
	least := (p.usable-12)*32/255 - 23
	if index {
		most = (p.usable-12)*64/255 - 23
	}
	if size <= most {
		if size > len(b) {
			return nil, false
		}
		return b[:size], true
	}
	here := least + (size-least)%(p.usable-4)
	if here > most {
		here = least
	}
	if here+4 > len(b) || size > int(p.Count)*p.size {
		return nil, false
	}
	payload := append(make([]byte, 0, size), b[:here]...)
	next, before, want := binary.BigEndian.Uint32(b[here:]), n, byte(FirstOverflowPage)
	for len(payload) < size {
		if next < 2 || next > p.Count || p.Liveness(next) == NotLive {
			p.BadPages[before] = struct{}{}
			return nil, false
		}
		if kind, parent := p.Kind(next); kind != 0 && (kind != want || parent != before) {
			p.BadPages[before] = struct{}{}
			return nil, false
		}
		o := p.Page(next)
		if o == nil {
			p.BadPages[next] = struct{}{}
			return nil, false
		}
		part := o[4:p.usable]
		part = part[:min(len(part), size-len(payload))]
		// JSON and compressed data never have that many zeros. A page that was never written, or was wiped, has.
		if len(bytes.TrimLeft(part, "\x00")) == 0 {
			p.BadPages[next] = struct{}{}
			return nil, false
		}
		payload = append(payload, part...)
		before, next, want = next, binary.BigEndian.Uint32(o), NextOverflowPage
	}
	if next != 0 {
		p.BadPages[before] = struct{}{}
		return nil, false
	}
	return payload, true
}

// varint reads a variable-length integer of SQLite. used is how many bytes it has, 0 if b ends before it does.
func varint(b []byte) (v uint64, used int) {
	for i := range min(8, len(b)) {
		v = v<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	if len(b) < 9 {
		return 0, 0
	}
	return v<<8 | uint64(b[8]), 9
}

// record reads the columns of a row. The values share memory with b.
func record(b []byte) (values []driver.Value, ok bool) {
	size, used := varint(b)
	if used == 0 || size < uint64(used) || size > uint64(len(b)) {
		return nil, false
	}
	types, b := b[used:size], b[size:]
	for len(types) > 0 {
		kind, used := varint(types)
		if used == 0 {
			return nil, false
		}
		types = types[used:]
		length := uint64(0)
		switch {
		case kind <= 4:
			length = kind
		case kind == 5:
			length = 6
		case kind == 6 || kind == 7:
			length = 8
		case kind >= 12:
			length = (kind - 12) / 2
		case kind == 10 || kind == 11: // reserved; never in a database file
			return nil, false
		}
		if length > uint64(len(b)) {
			return nil, false
		}
		part := b[:length]
		b = b[length:]
		switch {
		case kind == 0:
			values = append(values, nil)
		case kind <= 6:
			v := int64(int8(part[0]))
			for _, c := range part[1:] {
				v = v<<8 | int64(c)
			}
			values = append(values, v)
		case kind == 7:
			values = append(values, math.Float64frombits(binary.BigEndian.Uint64(part)))
		case kind <= 9:
			values = append(values, int64(kind-8))
		case kind%2 == 0:
			values = append(values, part)
		default:
			values = append(values, string(part))
		}
	}
	return values, len(b) == 0
}
