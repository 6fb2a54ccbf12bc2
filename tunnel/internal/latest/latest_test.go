package latest

import (
	"fmt"
	"testing"
)

func TestTheNewestValuesAreKept(t *testing.T) {
	t.Parallel()
	l := New[int](4)
	for i := range 100 {
		l.Send(i)
	}
	l.Close()
	l.Close()
	l.Send(100)
	var got []int
	for v := range l.C {
		got = append(got, v)
	}
	if fmt.Sprint(got) != "[96 97 98 99]" {
		t.Errorf("%v", got)
	}
}
