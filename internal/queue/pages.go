package queue

import (
	"bytes"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
)

// SQLite's own means of reading a damaged file (sqlite3_recover, sqlite_dbdata) are not in its Go edition, so this file
// reads pages by itself, after the description at https://www.sqlite.org/fileformat2.html. It changes nothing.

const (
	defaultPageSize = 4096
	fileHeaderSize  = 100
	walHeaderSize   = 32
	frameHeaderSize = 24
	// lockByte is where SQLite locks the file; the page that holds it is never used.
	lockByte = 1 << 30
)

// What a page is, by its first byte.
const (
	interiorIndexPage = 0x02
	interiorTablePage = 0x05
	leafIndexPage     = 0x0a
	leafTablePage     = 0x0d
)

// What a page is, by the map of pages.
const (
	rootEntry     = 1
	freeEntry     = 2
	overflowFirst = 3 // its parent is the page with the row
	overflowNext  = 4 // its parent is the overflow page before it
	treeEntry     = 5
	maxEntry      = treeEntry
)

// pageFile reads a SQLite database page by page, the committed pages in its write-ahead log included, whatever of it is
// damaged. What can't be read counts as damaged.
type pageFile struct {
	db, wal    *os.File // wal is nil without one
	header     []byte   // of page 1; nil if that is damaged
	size       int      // of a page, in bytes
	usable     int      // of size
	count      uint32   // of pages
	frames     map[uint32]int64
	stale      map[uint32]bool     // whose newest copy in the log is damaged: what can be read is an older one
	walDamaged bool                // in the midst of the log
	free       map[uint32]bool     // the list of free pages; nil where it can't be trusted
	maps       map[uint32][]byte   // pages of the map of pages that can be trusted; nil for the others
	badPages   map[uint32]struct{} // pages that are part of the database and damaged
}

func openPages(path string) (_ *pageFile, err error) {
	p := &pageFile{maps: map[uint32][]byte{}, badPages: map[uint32]struct{}{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.db, err = os.Open(path); err != nil {
		return nil, err
	}
	if p.wal, err = os.Open(path + "-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	info, err := p.db.Stat()
	if err != nil {
		return nil, err
	}
	p.size = defaultPageSize
	if h := make([]byte, fileHeaderSize); p.readFull(p.db, h, 0) {
		if size, ok := headerPageSize(h); ok {
			p.size = size
		}
	}
	p.usable = p.size
	inLog := p.readLog()
	if first := p.page(1); first != nil {
		if size, ok := headerPageSize(first); ok && size == p.size {
			p.header = bytes.Clone(first[:fileHeaderSize])
			p.usable = p.size - int(p.header[20])
		}
	}
	p.count = uint32((info.Size() + int64(p.size) - 1) / int64(p.size))
	switch {
	case inLog > 0:
		p.count = inLog
	case p.header != nil && bytes.Equal(p.header[24:28], p.header[92:96]):
		p.count = binary.BigEndian.Uint32(p.header[28:])
	}
	p.free = p.freeList()
	return p, nil
}

func (p *pageFile) close() error {
	var err error
	for _, f := range []*os.File{p.db, p.wal} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// headerPageSize returns the page size that a file header names, if it is one.
func headerPageSize(h []byte) (int, bool) {
	size := int(binary.BigEndian.Uint16(h[16:]))
	if size == 1 {
		size = 1 << 16
	}
	ok := string(h[:16]) == "SQLite format 3\x00" && size >= 512 && size&(size-1) == 0 && int(h[20]) <= size-480 &&
		h[21] == 64 && h[22] == 32 && h[23] == 32
	return size, ok
}

// userVersion returns the version of the schema, 0 if that can't be read.
func (p *pageFile) userVersion() int {
	if p.header == nil {
		return 0
	}
	return int(int32(binary.BigEndian.Uint32(p.header[60:])))
}

func (p *pageFile) readFull(f *os.File, b []byte, at int64) bool {
	n, err := f.ReadAt(b, at)
	return n == len(b) && (err == nil || errors.Is(err, io.EOF))
}

// page returns a page as it was last committed, nil if it can't be read.
func (p *pageFile) page(n uint32) []byte {
	if n == 0 {
		return nil
	}
	b := make([]byte, p.size)
	if at, ok := p.frames[n]; ok {
		if p.readFull(p.wal, b, at) {
			return b
		}
		return nil
	}
	if !p.readFull(p.db, b, int64(n-1)*int64(p.size)) {
		return nil
	}
	return b
}

// readLog finds the newest committed copy of each page in the write-ahead log, and returns how many pages the database had
// after the last commit, 0 if none is there. SQLite reads a log up to the first damaged frame; this reads what is sound
// behind it too.
func (p *pageFile) readLog() (pages uint32) {
	p.frames, p.stale = map[uint32]int64{}, map[uint32]bool{}
	if p.wal == nil {
		return 0
	}
	header := make([]byte, walHeaderSize)
	if !p.readFull(p.wal, header, 0) {
		return 0
	}
	magic := binary.BigEndian.Uint32(header)
	var order binary.ByteOrder = binary.LittleEndian
	if magic&1 == 1 {
		order = binary.BigEndian
	}
	sum := walSum{}.add(order, header[:24])
	whole := magic&^1 == 0x377f0682 && sum == storedSum(header[24:])
	if whole {
		p.size = int(binary.BigEndian.Uint32(header[8:]))
		return p.readFrames(order, header[16:24], &sum)
	}
	// Without its header the log is read by what its first frame says. The byte order is that of the machine that wrote it.
	first := make([]byte, frameHeaderSize)
	if !p.readFull(p.wal, first, walHeaderSize) {
		return 0
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if pages = p.readFrames(order, first[8:16], nil); pages > 0 {
			p.walDamaged = true
			return pages
		}
	}
	return 0
}

// readFrames reads the frames that have the given salt: those of an earlier round of the log have another one. sum is what
// the first frame's checksum begins with, nil if that is not known.
func (p *pageFile) readFrames(order binary.ByteOrder, salt []byte, sum *walSum) (pages uint32) {
	frame := make([]byte, frameHeaderSize+p.size)
	pending := map[uint32]int64{}
	bad := false
	for at := int64(walHeaderSize); p.readFull(p.wal, frame, at); at += int64(len(frame)) {
		h := frame[:frameHeaderSize]
		if !bytes.Equal(h[8:16], salt) {
			bad, sum = true, nil
			continue
		}
		stored := storedSum(h[16:])
		sound := sum != nil && sum.add(order, h[:8]).add(order, frame[frameHeaderSize:]) == stored
		sum = &stored
		page := binary.BigEndian.Uint32(h)
		if !sound {
			bad, p.stale[page] = true, true
			continue
		}
		p.walDamaged = p.walDamaged || bad
		pending[page] = at + frameHeaderSize
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

// walSum is the checksum of a write-ahead log.
type walSum [2]uint32

func storedSum(b []byte) walSum {
	return walSum{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
}

func (s walSum) add(order binary.ByteOrder, b []byte) walSum {
	for ; len(b) >= 8; b = b[8:] {
		s[0] += order.Uint32(b) + s[1]
		s[1] += order.Uint32(b[4:]) + s[0]
	}
	return s
}

// freeList returns the pages of the list of free ones, nil unless all of the list is as it should be.
func (p *pageFile) freeList() map[uint32]bool {
	if p.header == nil {
		return nil
	}
	free := map[uint32]bool{}
	take := func(n uint32) bool {
		if n < 2 || n > p.count || free[n] {
			return false
		}
		free[n] = true
		return true
	}
	for trunk := binary.BigEndian.Uint32(p.header[32:]); trunk != 0; {
		b := p.page(trunk)
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

// mapPage returns the number of the page with n's entry in the map of pages.
func (p *pageFile) mapPage(n uint32) uint32 {
	each := uint32(p.usable/5 + 1)
	at := (n-2)/each*each + 2
	if at == p.lockPage() {
		at++
	}
	return at
}

func (p *pageFile) lockPage() uint32 { return uint32(lockByte/p.size + 1) }

// entry returns what the map of pages says of page n, 0 if it says nothing that can be trusted.
func (p *pageFile) entry(n uint32) (kind byte, parent uint32) {
	if n < 3 {
		return 0, 0
	}
	at := p.mapPage(n)
	m, known := p.maps[at]
	if !known {
		m = p.page(at)
		if m != nil && !p.soundMap(at, m) {
			p.badPages[at] = struct{}{}
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

// soundMap reports whether all entries of a page of the map can be true: garbage must not make a page of rows a free one.
func (p *pageFile) soundMap(at uint32, m []byte) bool {
	for i := range p.usable / 5 {
		n := at + 1 + uint32(i)
		if n > p.count {
			break
		}
		if n == p.lockPage() {
			continue
		}
		e := m[5*i:]
		parent := binary.BigEndian.Uint32(e[1:])
		if e[0] == 0 || e[0] > maxEntry || parent > p.count || (parent == 0) != (e[0] == rootEntry || e[0] == freeEntry) {
			return false
		}
	}
	return true
}

// liveness says whether what stands in a page counts.
type liveness int

const (
	live liveness = iota
	unsure
	notLive
)

// liveness returns whether page n counts. A free page may hold rows that were removed long ago.
func (p *pageFile) liveness(n uint32) liveness {
	if n == p.lockPage() || n >= 2 && n == p.mapPage(n) {
		return notLive
	}
	switch {
	case p.stale[n]:
		return unsure
	case n == 1:
		return live
	}
	switch kind, _ := p.entry(n); {
	case kind == freeEntry:
		return notLive
	case kind != 0:
		return live
	case p.free == nil:
		return unsure
	case p.free[n]:
		return notLive
	}
	return live
}

// row is a row of a table, or an entry of an index, which has no key.
type row struct {
	key    int64
	index  bool
	values []driver.Value
}

// rows calls found with each row that page n holds and that is sound, with what it has in overflow pages. A page that holds
// none is passed over.
func (p *pageFile) rows(n uint32, found func(row) error) error {
	b := p.page(n)
	kind, _ := p.entry(n)
	if b == nil {
		p.badPages[n] = struct{}{}
		return nil
	}
	h := b
	if n == 1 {
		h = b[fileHeaderSize:]
	}
	headerSize := 8
	switch h[0] {
	case interiorTablePage:
		return nil // keys alone
	case interiorIndexPage:
		headerSize = 12
	case leafIndexPage, leafTablePage:
	default:
		if n == 1 || kind == rootEntry || kind == treeEntry {
			p.badPages[n] = struct{}{}
		}
		return nil
	}
	cells := int(binary.BigEndian.Uint16(h[3:]))
	if headerSize+2*cells > len(h) {
		p.badPages[n] = struct{}{}
		return nil
	}
	for i := range cells {
		at := int(binary.BigEndian.Uint16(h[headerSize+2*i:]))
		r, ok := row{}, at < p.usable
		if ok {
			r, ok = p.cell(n, h[0], b[at:p.usable])
		}
		if !ok {
			p.badPages[n] = struct{}{}
			continue
		}
		if err := found(r); err != nil {
			return err
		}
	}
	return nil
}

// cell reads one cell of page n, which begins b.
func (p *pageFile) cell(n uint32, kind byte, b []byte) (r row, ok bool) {
	if r.index = kind != leafTablePage; kind == interiorIndexPage {
		if len(b) < 4 {
			return r, false
		}
		b = b[4:]
	}
	size, used := varint(b)
	if used == 0 || size == 0 || size > maxBody {
		return r, false
	}
	b = b[used:]
	if !r.index {
		key, used := varint(b)
		if used == 0 {
			return r, false
		}
		r.key, b = int64(key), b[used:]
	}
	payload, ok := p.payload(n, b, int(size), r.index)
	if !ok {
		return r, false
	}
	r.values, ok = record(payload)
	return r, ok
}

// payload returns what a cell of page n holds, of which b has the beginning.
func (p *pageFile) payload(n uint32, b []byte, size int, index bool) ([]byte, bool) {
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
	if here+4 > len(b) || size > int(p.count)*p.size {
		return nil, false
	}
	payload := append(make([]byte, 0, size), b[:here]...)
	next, before, want := binary.BigEndian.Uint32(b[here:]), n, byte(overflowFirst)
	for len(payload) < size {
		if next < 2 || next > p.count || p.liveness(next) == notLive {
			p.badPages[before] = struct{}{}
			return nil, false
		}
		if kind, parent := p.entry(next); kind != 0 && (kind != want || parent != before) {
			p.badPages[before] = struct{}{}
			return nil, false
		}
		o := p.page(next)
		if o == nil {
			p.badPages[next] = struct{}{}
			return nil, false
		}
		part := o[4:p.usable]
		part = part[:min(len(part), size-len(payload))]
		// Neither JSON nor what is compressed has so many zeros, but a page that was never written or was wiped has.
		if len(bytes.TrimLeft(part, "\x00")) == 0 {
			p.badPages[next] = struct{}{}
			return nil, false
		}
		payload = append(payload, part...)
		before, next, want = next, binary.BigEndian.Uint32(o), overflowNext
	}
	if next != 0 {
		p.badPages[before] = struct{}{}
		return nil, false
	}
	return payload, true
}

// varint reads SQLite's variable-length integer and returns how many bytes it took, 0 if it is cut short.
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

// record reads the columns of a row. They share memory with b.
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
		case kind == 10 || kind == 11: // SQLite's own, never in a file
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
