-- A provider's version is one version of ours, where the provider names it. A version that was replaced under its
-- names at the provider stands beside the one that has them now.
DROP INDEX key_versions_by_provider;
CREATE UNIQUE INDEX key_versions_by_provider ON key_versions (tenant, key, provider, provider_key, provider_version)
    WHERE provider_version <> '' AND provider_state <> 'replaced';
