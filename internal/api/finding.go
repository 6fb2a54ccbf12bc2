package api

// Finding is what `hubhook doctor` found out by one check.
type Finding struct {
	Name   string `json:"name"`
	Result Result `json:"result"`
	Text   string `json:"text"`
	Fix    string `json:"fix"` // what to do about it; "" where there is nothing to do
}

// Result is how a check ended.
type Result string

// The results.
const (
	OK   Result = "ok"
	Warn Result = "warn" // it works, but see Fix
	Fail Result = "fail"
	Skip Result = "skip" // there is nothing to check, or it can't be checked
)
