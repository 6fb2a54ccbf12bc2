package hub

import (
	"container/list"
	"sync"
)

// maxTree bounds the entries that a treeCache keeps: about 40 MB.
const maxTree = 200_000

// treeKey names a listing of a folder: by the folder's path, because the paths in the listing begin with it, and by git's id of the folder or, where
// that is unknown, by the commit.
type treeKey struct {
	repo     RepoID
	path, id string
}

type tree struct {
	key     treeKey
	entries []Entry
}

// treeCache keeps the listings of folders that were used last. The zero treeCache is empty.
type treeCache struct {
	mu    sync.Mutex
	trees map[treeKey]*list.Element
	order list.List // of *tree, last used first
	size  int
}

// cost is the number of entries and one, so that empty folders count too.
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
