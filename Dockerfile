# docker build -t menshen . && docker run -p 8080:8080 -v ./menshen.yaml:/etc/menshen/menshen.yaml:ro menshen
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --profile dist --locked

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/menshen menshen
COPY --from=build /src/target/dist/menshen /usr/local/bin/menshen
USER menshen
# Without `data_dir` in the configuration, the folder `data` is below it: the signing key, which must outlive the container.
WORKDIR /var/lib/menshen
VOLUME /var/lib/menshen
# Listen on 0.0.0.0:8080 in here; the admin listener stays on loopback unless `admin.address` says otherwise.
EXPOSE 8080
ENTRYPOINT ["menshen"]
CMD ["serve", "--config", "/etc/menshen/menshen.yaml"]
