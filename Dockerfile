# hubhook and nothing else: no shell, no user with rights, one place that is written to. `make image` makes the same without a container engine.
# docs/containers.md says how to run it.
#
#     docker build --build-arg VERSION=$(git describe --tags --always) -t hubhook .

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
# The modules first: they are downloaded again only when go.mod or go.sum change.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel TARGETOS TARGETARCH
# Without cgo the binary needs no C library, which the image below has not.
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath \
	-ldflags "-s -w -X github.com/hubhook/hubhook/internal/version.linked=$VERSION" -o /out/hubhook .
RUN mkdir -p /files/etc/hubhook /files/etc/ssl/certs /data \
	&& cp /etc/ssl/certs/ca-certificates.crt /files/etc/ssl/certs/ \
	&& printf 'root:x:0:0:root:/:/sbin/nologin\nhubhook:x:65532:65532:hubhook:/data:/sbin/nologin\n' >/files/etc/passwd \
	&& printf 'root:x:0:\nhubhook:x:65532:\n' >/files/etc/group

FROM scratch
COPY --from=build /files /
COPY --from=build --chown=65532:65532 /data /data
COPY --from=build /out/hubhook /usr/local/bin/hubhook
# A container's ports can't be reached on its loopback interface. The inspector stays there.
ENV PATH=/usr/local/bin:/usr/bin:/bin \
	HOME=/data \
	TMPDIR=/data \
	HUBHOOK_DATA=/data \
	HUBHOOK_HOST=0.0.0.0 \
	HUBHOOK_NO_TUNNEL=true
EXPOSE 7860
VOLUME /data
# A number, because Kubernetes' runAsNonRoot can't look up a name.
USER 65532:65532
# hubhook looks here for hubhook.yaml.
WORKDIR /etc/hubhook
ENTRYPOINT ["/usr/local/bin/hubhook"]
CMD ["serve"]
