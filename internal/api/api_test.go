package api

import (
	"encoding/json"
	"testing"
	"time"
)

func TestTime(t *testing.T) {
	at := Time{time.Date(2026, 11, 23, 14, 0, 0, 1_999_999, time.FixedZone("", 2*60*60))}
	text, err := json.Marshal(at)
	if want := `"2026-11-23T12:00:00.001Z"`; err != nil || string(text) != want {
		t.Errorf("have %s (%v), want %s", text, err, want)
	}
	var same Time
	if err := json.Unmarshal(text, &same); err != nil || !same.Equal(at.Truncate(time.Millisecond)) {
		t.Errorf("read back %v (%v)", same, err)
	}
}

func TestMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]int64{
		0: 0, 499 * time.Microsecond: 0, 500 * time.Microsecond: 1, 14500 * time.Microsecond: 15, time.Second: 1000,
	} {
		if have := Milliseconds(d); have != want {
			t.Errorf("%v: have %d, want %d", d, have, want)
		}
	}
}

// A line of --json is the object that the API has, behind its type and time, with every field of it.
func TestLines(t *testing.T) {
	now := Time{time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	const at = `"time":"2026-11-23T12:00:00.000Z"`
	for want, line := range map[string]any{
		`{"type":"stopped",` + at + `,"unfinished":2}`: StoppedLine{Line{"stopped", now}, Stopped{Unfinished: 2}},
		`{"type":"rejected",` + at + `,"endpoint":"inbox","status":401,"reason":"","error":"","fix":"","user_agent":"","times":1}`: RejectedLine{"rejected", Rejected{Time: now, Endpoint: "inbox", Status: 401, Times: 1}},
		`{"type":"tunnel",` + at + `,"provider":"ngrok","phase":"","url":"","error":"","hint":""}`:                                 TunnelLine{"tunnel", TunnelChange{Time: now, Provider: "ngrok"}},
	} {
		if have, err := json.Marshal(line); err != nil || string(have) != want {
			t.Errorf("have %s (%v), want %s", have, err, want)
		}
	}
}
