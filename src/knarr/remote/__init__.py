"""The registry client: one repository of one registry as a `content.target.Target`.

Floors inside, from the wire up:

- `url`, `wire`, `tls`, `dial`, `pool`: bytes to a host and back over HTTP/1.1;
- `hosts`, `hoststoml`, `certsd`, `buildkitd`: a registry's name → ordered endpoints with their trust;
- `challenge`, `auth`: who we are, told to whom asks;
- `failure`, `transport`: one request with login, redirects, retries and a clear error;
- `download`, `upload`, `referrers`, `repository`: the routes of distribution-spec v1.1;
- `probe`: only "which digest has this tag now", for the warm path of a build.

Main entry: `repository.Registry(settings, credentials).repository(reference)`.
"""
