package hubtest

// Bucket is a bucket of a [Hub].
type Bucket struct{ private bool }
