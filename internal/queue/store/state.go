package store

import (
	"slices"
	"strconv"
	"strings"
)

// State says where a delivery stands.
type State string

// The states of a delivery. The last five are finished: nothing moves a delivery out of them.
const (
	Waiting   State = "waiting"   // stored, not started yet
	Running   State = "running"   // its handler runs
	Retrying  State = "retrying"  // an attempt failed, the next one is due later
	Done      State = "done"      // handled
	Dead      State = "dead"      // attempts used up, or unreadable
	Skipped   State = "skipped"   // the endpoint's condition said no
	Merged    State = "merged"    // into a later delivery of its burst
	Discarded State = "discarded" // by hand
)

// Finished reports whether a delivery in state s will never run again.
func (s State) Finished() bool {
	switch s {
	case Done, Dead, Skipped, Merged, Discarded:
		return true
	}
	return false
}

// The numbers of the states, as they are stored. Those from StateDone on are finished. A new state comes last.
const (
	StateWaiting = iota
	StateRunning
	StateRetrying
	StateDone
	StateDead
	StateSkipped
	StateMerged
	StateDiscarded
	StateCount // how many there are
)

// StateNames has the states by their numbers.
var StateNames = [StateCount]State{Waiting, Running, Retrying, Done, Dead, Skipped, Merged, Discarded}

// States returns all states, in the order of a delivery's life.
func States() []State { return slices.Clone(StateNames[:]) }

// StateNumber returns the number of a state, -1 if s is none.
func StateNumber(s State) int64 { return int64(slices.Index(StateNames[:], s)) }

// NumberStates replaces each name of a state in braces by its number in SQL: {done} becomes 3.
func NumberStates(sql string) string { return stateNumbers.Replace(sql) }

var stateNumbers = func() *strings.Replacer {
	var pairs []string
	for number, name := range StateNames {
		pairs = append(pairs, "{"+string(name)+"}", strconv.Itoa(number))
	}
	return strings.NewReplacer(pairs...)
}()
