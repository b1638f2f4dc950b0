# The smallest policy for Claviger. `keys/+` is every key of the engine: give Claviger an engine of its own.
# A key of yours that Claviger adopts needs the encrypt and decrypt lines with its own name.
path "transit/keys/+" { capabilities = ["read", "update"] }
path "transit/keys/+/rotate" { capabilities = ["update"] }
path "transit/encrypt/claviger-*" { capabilities = ["update"] }
path "transit/decrypt/claviger-*" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
