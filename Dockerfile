# A static binary in an empty image: nothing else to keep up to date.
FROM node:22-alpine AS ui
WORKDIR /src/ui
COPY ui/package.json ui/package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY ui .
RUN npm run build

FROM rust:1.95-alpine AS build
RUN apk add --no-cache musl-dev
WORKDIR /src
COPY . .
COPY --from=ui /src/ui/dist ui/dist
RUN cargo build --release --locked && mkdir /empty

FROM scratch
COPY --from=build /src/target/release/calltap /calltap
# Owned by the user below, so that a new volume is too.
COPY --from=build --chown=65532:65532 /empty /data
USER 65532:65532
VOLUME /data
EXPOSE 4777
ENV CALLTAP_DATA_DIR=/data CALLTAP_SERVER__LISTEN=0.0.0.0:4777
# An address that others can reach needs auth.keys and auth.admin_token: mount a configuration and name
# it in CALLTAP_CONFIG. Without them calltap says so and ends with 78.
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s CMD ["/calltap", "health"]
ENTRYPOINT ["/calltap"]
CMD ["serve"]
