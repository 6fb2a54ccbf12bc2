package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hubhook/hubhook/internal/api"
	"github.com/hubhook/hubhook/internal/queue"
	"github.com/hubhook/hubhook/ui/inspector"
)

// answer answers a delivery that is stored.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, e *endpoint, receipt *queue.Receipt) {
	w.Header()[deliveryHeader] = []string{receipt.ID}
	if receipt.Duplicate {
		s.metrics.duplicate(e.name)
		s.screen.Delivery(viewDuplicate(r, e, receipt))
	}
	told := 0 // the status of an answer that told the outcome
	defer func() {
		if r.Context().Err() != nil || isSample(r.Context()) && !receipt.State.Finished() { // nobody waited for it to the end
			told = 0
		}
		s.answered(receipt.Value.(*arrival).sender, told)
	}()
	if s.settings.Answer == answerHandled && !isSample(r.Context()) {
		told = s.answerHandled(w, r, e, receipt)
	} else {
		told = s.answerStored(w, r, receipt)
	}
}

// answerStored waits for the handler as long as the configuration says and answers 2xx, whatever becomes of the delivery. It returns the
// status if the answer tells the outcome, 0 if not.
func (s *Server) answerStored(w http.ResponseWriter, r *http.Request, receipt *queue.Receipt) (told int) {
	if receipt.Duplicate {
		respond(w, http.StatusOK, api.Answer{Delivery: receipt.ID, State: "duplicate"})
		return 0
	}
	s.awaitAttempt(r, receipt)
	state := receipt.Now() // before the last look whether it has ended, so that the two agree
	select {
	case <-receipt.Done():
		return s.answerReport(w, receipt.ID, receipt.Report())
	default:
		respond(w, http.StatusAccepted, api.Answer{Delivery: receipt.ID, State: string(state)})
		return 0
	}
}

// answerReport answers with what became of a delivery, and returns the status that it wrote.
func (s *Server) answerReport(w http.ResponseWriter, id string, report queue.Report) int {
	v := api.Answer{Delivery: id, State: string(report.State)}
	switch report.State {
	case queue.Done:
		return writeJSON(w, http.StatusOK, resultOrEmpty(report.Result))
	case queue.Retrying, queue.Dead:
		if s.secrets.defined() {
			v.Error = report.Reason
		}
	default:
		v.Reason = report.Reason
	}
	if report.State.Finished() {
		return respond(w, http.StatusOK, v)
	}
	return respond(w, http.StatusAccepted, v)
}

// viewDuplicate shows the request under the ID of the delivery that it is a duplicate of.
func viewDuplicate(r *http.Request, e *endpoint, receipt *queue.Receipt) api.Delivery {
	a := newArrival(e.name, nil, nil, receipt.Value.(*arrival).payload, nil)
	d := inspector.ViewDelivery(&queue.Delivery{
		ID: receipt.ID, Endpoint: e.name, State: receipt.State, WebhookID: r.Header.Get("Webhook-Id"), Received: time.Now(),
		Scope: a.Scope, Action: a.Action, RepoType: a.RepoType, RepoName: a.RepoName,
	})
	d.Duplicate = true
	return d
}

// awaitAttempt waits until the first attempt has ended, as long as the configuration says. It does not wait for one that is held back, nor
// for that of a sample event.
func (s *Server) awaitAttempt(r *http.Request, receipt *queue.Receipt) {
	if receipt.Postponed || s.settings.ReplyWithin <= 0 || isSample(r.Context()) {
		return
	}
	select {
	case <-receipt.Done():
		return
	default:
	}
	timer := time.NewTimer(s.settings.ReplyWithin)
	defer timer.Stop()
	select {
	case <-receipt.Done():
	case <-timer.C:
	case <-r.Context().Done():
	}
}

// answerHandled waits until the delivery, or the first one for a duplicate, is finished, and answers 2xx only if the sender need not send
// it again. It returns the status if a 2xx answer tells the outcome, 0 if not.
func (s *Server) answerHandled(w http.ResponseWriter, r *http.Request, e *endpoint, receipt *queue.Receipt) (told int) {
	report, err := s.handled(r.Context(), receipt)
	unreadable := !receipt.Duplicate && receipt.State == queue.Dead
	switch {
	case err != nil || report.State != queue.Done && report.State != queue.Skipped && !unreadable:
		s.refuse(w, r, e.name, s.unhandled(r.Context(), receipt.ID, report, err))
		return 0
	case receipt.Duplicate:
		respond(w, http.StatusOK, api.Answer{Delivery: receipt.ID, State: "duplicate"})
		return 0
	default:
		return s.answerReport(w, receipt.ID, report)
	}
}

// handled waits until a delivery is finished, or as long as an answer may take.
func (s *Server) handled(ctx context.Context, receipt *queue.Receipt) (queue.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, s.settings.handledLimit)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	if !receipt.Duplicate {
		select {
		case <-receipt.Done():
			switch report := receipt.Report(); report.State {
			case queue.Done, queue.Skipped, queue.Dead: // nothing more will become of it
				return report, nil
			}
		case <-ctx.Done():
			return queue.Report{}, ctx.Err()
		}
	}
	return s.queue.Load().Outcome(ctx, receipt.ID)
}

// unhandled says why a delivery is answered 503 although it is stored.
func (s *Server) unhandled(ctx context.Context, id string, report queue.Report, err error) *refusal {
	no := &refusal{status: http.StatusServiceUnavailable, cause: "not_handled"}
	switch {
	case ctx.Err() != nil:
		no.text, no.cause, no.fix = "delivery "+id+" is not handled yet", "gone", "the sender hung up before it was"
	case err != nil && s.life.Err() != nil:
		no.text, no.cause, no.fix = "shutting down; try again later", "stopping", "the Hub tries again"
	case errors.Is(err, context.DeadlineExceeded):
		no.text = fmt.Sprintf("delivery %s is not handled within %v; try again later", id, s.settings.handledLimit)
		no.fix = "it goes on, and the Hub asks again; handlers that take longer need a disk that lasts and --answer stored"
	case err != nil:
		no.text = "what became of delivery " + id + " could not be read; try again later"
		no.fix = err.Error()
	case report.State == queue.Dead:
		no.text, no.cause = "delivery "+id+" could not be handled", "failed"
		if s.secrets.defined() {
			no.text += ": " + report.Reason
		}
		no.fix = "fix the handler; the Hub tries again"
	default:
		no.text, no.cause = fmt.Sprintf("delivery %s was %s", id, report.State), "failed"
		no.fix = "the Hub tries again"
	}
	return no
}

var emptyObject = []byte("{}")

func resultOrEmpty(result []byte) []byte {
	if len(result) == 0 {
		return emptyObject
	}
	return result
}
