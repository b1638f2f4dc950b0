-- The credential of the request that began a creation: the public id of its token, and the tenant that it acted
-- for. A creation that is finished later needs it in force. Null for those of before this migration, and for
-- the gateway's own.
ALTER TABLE creations ADD COLUMN token TEXT;
ALTER TABLE creations ADD COLUMN acting BLOB CHECK (acting IS NULL OR length(acting) = 16);
