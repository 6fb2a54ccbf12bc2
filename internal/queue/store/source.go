package store

import "strings"

// The sources of deliveries, and how the Webhook-Ids begin that hubhook gives to those that it makes from what it reads on the Hub.
const (
	FromHub     = "hub"      // the Hub sent it
	FromSample  = "sample"   // made to try an endpoint
	FromFollow  = "follow"   // made from what was read on the Hub, where no webhook brings it
	FromCatchUp = "catch-up" // made from what was read on the Hub, where a webhook should have brought it

	FollowID  = FromFollow + "-"
	CatchUpID = FromCatchUp + "-"
)

// Source says where a delivery came from. A replay has the source of the delivery that it repeats.
func (d *Delivery) Source() string {
	switch {
	case !d.Synthetic:
		return FromHub
	case strings.HasPrefix(d.WebhookID, FollowID):
		return FromFollow
	case strings.HasPrefix(d.WebhookID, CatchUpID):
		return FromCatchUp
	}
	return FromSample
}
