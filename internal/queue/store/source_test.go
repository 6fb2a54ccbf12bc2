package store

import "testing"

func TestSource(t *testing.T) {
	for _, c := range []struct {
		d    Delivery
		want string
	}{
		{Delivery{}, FromHub},
		{Delivery{WebhookID: "follow-1"}, FromHub}, // whatever the Hub calls its deliveries
		{Delivery{Synthetic: true}, FromSample},
		{Delivery{Synthetic: true, WebhookID: "follow-1"}, FromFollow},
		{Delivery{Synthetic: true, WebhookID: "catch-up-1"}, FromCatchUp},
	} {
		if got := c.d.Source(); got != c.want {
			t.Errorf("%+v comes from %s, want %s", c.d, got, c.want)
		}
	}
}
