# One build, two images: docker build --target gateway, docker build --target roomsvc.
# Each contains one static binary and runs as nobody.

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /out/ ./gateway ./roomsvc
# An image from scratch lacks certificate authorities for TLS to NATS, and a directory for
# the log of a standalone gateway. Mount a volume there.
RUN mkdir -p /out/data /out/etc/ssl/certs && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/

FROM scratch AS roomsvc
COPY --from=build /out/etc /etc
COPY --from=build /out/roomsvc /roomsvc
USER 65534:65534
EXPOSE 9091
HEALTHCHECK --interval=5s --timeout=4s --start-period=20s CMD ["/roomsvc", "ready"]
ENTRYPOINT ["/roomsvc"]

FROM scratch AS gateway
COPY --from=build /out/etc /etc
COPY --from=build /out/gateway /gateway
COPY --from=build --chown=65534:65534 /out/data /data
WORKDIR /data
# Inside a container loopback would reach nobody.
ENV GATEWAY_LISTEN=:8000
USER 65534:65534
EXPOSE 8000 9090
HEALTHCHECK --interval=5s --timeout=4s --start-period=20s CMD ["/gateway", "ready"]
ENTRYPOINT ["/gateway"]
