package hub

import (
	"container/list"
	"sync"
)

// maxTree bounds the entries that a treeCache keeps: about 40 MB.
const maxTree = 200_000

// A treeKey names a folder's listing by its path, which all paths in it begin with, and git's id of its content or the commit.
type treeKey struct {
	repo     RepoID
	path, id string
}

type tree struct {
	key     treeKey
	entries []Entry
}

// treeCache keeps listings of folders, those that were used last. The zero treeCache is empty.
type treeCache struct {
	mu    sync.Mutex
	trees map[treeKey]*list.Element
	order list.List // of *tree, last used first
	size  int
}

// cost counts an empty folder too.
func (t *tree) cost() int { return len(t.entries) + 1 }

// get returns a listing, which the caller must not change.
func (c *treeCache) get(key treeKey) ([]Entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.trees[key]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(element)
	return element.Value.(*tree).entries, true
}

// put keeps a listing, which nobody may change from now on.
func (c *treeCache) put(key treeKey, entries []Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.trees[key]; ok {
		return
	}
	if c.trees == nil {
		c.trees = make(map[treeKey]*list.Element)
	}
	t := &tree{key, entries}
	c.trees[key] = c.order.PushFront(t)
	c.size += t.cost()
	for c.size > maxTree {
		last := c.order.Back()
		dropped := c.order.Remove(last).(*tree)
		delete(c.trees, dropped.key)
		c.size -= dropped.cost()
	}
}
