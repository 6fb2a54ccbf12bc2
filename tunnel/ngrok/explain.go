package ngrok

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	sdk "golang.ngrok.com/ngrok/v2"

	"github.com/hubhook/hubhook/tunnel"
)

// The acts that errors of this provider name.
const (
	openAct = "open the ngrok tunnel"
	keepAct = "keep the ngrok tunnel open"
)

// diagnoseLimit bounds the search for the step that failed.
const diagnoseLimit = 2500 * time.Millisecond

// failure is an error of ours or of the network, with nothing more known about it.
func (d *dialer) failure(err error) *tunnel.Error {
	var known *tunnel.Error
	if errors.As(err, &known) {
		return known
	}
	return &tunnel.Error{
		Op:        openAct,
		Cause:     d.hide.line(err.Error()),
		Fix:       "check the network between here and " + d.address(),
		Temporary: true,
		Err:       d.redacted(err),
	}
}

// redacted keeps what errors.Is can tell of an error, without its text.
func (d *dialer) redacted(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errors.New(d.hide.line(err.Error()))
}

func (d *dialer) address() string { return d.settings.address() }

// explain finds out what is behind an error of the SDK. Where the service has not said so with a code, it takes the way step by
// step, for the SDK reports a certificate it does not trust as a session that was closed.
func (d *dialer) explain(ctx context.Context, err error) *tunnel.Error {
	if codeIn(err.Error()) != "" {
		return serviceError(err.Error(), d.settings.credential, d.hide)
	}
	s, _, newErr := d.newSession()
	if newErr != nil {
		return d.failure(newErr)
	}
	defer s.end()
	defer s.service.cutAll()
	ctx, cancel := context.WithTimeout(ctx, diagnoseLimit)
	defer cancel()
	_, step := s.agent.(sdk.Diagnoser).Diagnose(ctx, "")
	if step == nil {
		return d.failure(err)
	}
	return d.explainStep(s, step)
}

// explainStep is the error of a step that the SDK has taken for s and that failed.
func (d *dialer) explainStep(s *session, step error) *tunnel.Error {
	e := d.failure(step)
	addr := d.address()
	switch {
	case sdk.IsTCPDiagnoseFailure(step):
		return d.unreachable(s.service, errors.Unwrap(step))
	case sdk.IsTLSDiagnoseFailure(step):
		d.explainTLS(e, errors.Unwrap(step), addr)
	case sdk.IsMuxadoDiagnoseFailure(step):
		e.Cause = addr + " accepts connections but does not answer as the ngrok service does: " + d.hide.line(errors.Unwrap(step).Error())
		e.Fix = "try again in a minute; https://status.ngrok.com tells of outages"
		if d.settings.connectURL != "" {
			e.Fix = "check connect_url in ngrok.yml"
		}
	}
	return e
}

// lossOf is what an error means that ended a session or a try of the SDK to bring it back.
func (d *dialer) lossOf(err error) *tunnel.Error {
	if codeIn(err.Error()) != "" {
		return serviceError(err.Error(), d.settings.credential, d.hide)
	}
	e := d.failure(err)
	e.Op = keepAct
	e.Cause = "the connection to " + d.address() + " was lost: " + e.Cause
	return e
}

func (d *dialer) explainTLS(e *tunnel.Error, err error, addr string) {
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
	)
	trusted := orDefault(d.settings.casSource, "ngrok's own")
	switch {
	case errors.As(err, &unknown):
		e.Cause = "the certificate of " + addr + " is not signed by an authority that is trusted here (" + trusted + ")"
	case errors.As(err, &hostname):
		e.Cause = "the certificate of " + addr + " is for another name: " + d.hide.line(hostname.Error())
	case errors.As(err, &invalid):
		e.Cause = "the certificate of " + addr + " is not valid: " + d.hide.line(invalid.Error())
	default:
		e.Cause = addr + " does not complete a TLS handshake: " + d.hide.line(err.Error())
		e.Fix = "check the network between here and " + addr + ", and connect_url in ngrok.yml if it is set"
		return
	}
	e.Temporary = false
	e.Fix = "name the right authority in connect_cas of ngrok.yml"
	if d.settings.casSource == "" {
		e.Fix = "a proxy that looks into TLS is in the way: name its authority in connect_cas of ngrok.yml, or go around it"
	}
}
