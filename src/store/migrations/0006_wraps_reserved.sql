-- How many wraps were reserved of a version whose provider draws random nonces of 96 bits: at least as many
-- as it was asked for, since each is reserved before it is sent. The number only grows. Wraps of before this
-- migration are not counted.
ALTER TABLE key_versions ADD COLUMN wraps_reserved INTEGER NOT NULL DEFAULT 0
    CHECK (wraps_reserved BETWEEN 0 AND 4294967296);
