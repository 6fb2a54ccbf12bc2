package action

// Advice says why something went wrong and the one thing to do about it. Both are parts of sentences, without a full stop.
type Advice struct {
	Cause string
	Fix   string
}
