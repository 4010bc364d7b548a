# syntax=docker/dockerfile:1.7
ARG NODE_VERSION=22
ARG VARIANT=alpine

FROM --platform=$BUILDPLATFORM node:${NODE_VERSION}-${VARIANT} AS base
WORKDIR /app
ENV NODE_ENV=production PNPM_HOME="/pnpm"
ENV PATH="$PNPM_HOME:$PATH"

FROM base AS deps
COPY package.json pnpm-lock.yaml ./
RUN --mount=type=cache,id=pnpm,target=/pnpm/store,sharing=locked \
    --mount=type=secret,id=npmrc,target=/root/.npmrc,required=true \
    pnpm install --frozen-lockfile --prod

FROM base AS build
ARG GIT_SHA=unknown
COPY --from=deps /app/node_modules ./node_modules
COPY --exclude=**/*.test.ts --exclude=docs . .
RUN --mount=type=bind,source=.git,target=.git,readonly --network=none pnpm build

FROM base AS test
COPY --from=build /app /app
RUN pnpm test

FROM nginx:1.27@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef AS final
ARG GIT_SHA
LABEL revision="${GIT_SHA:-none}"
COPY --link --from=build --chown=nginx:nginx /app/dist /usr/share/nginx/html
COPY --from=deps /app/package.json /package.json
RUN <<'SCRIPT'
#!/bin/sh -e
for file in /usr/share/nginx/html/*.js; do
    gzip -k "$file"
done
SCRIPT
HEALTHCHECK NONE
