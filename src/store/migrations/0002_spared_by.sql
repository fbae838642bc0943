-- The least value of a rule's limit that would have kept a removed session.
ALTER TABLE audit ADD COLUMN spared_by BIGINT;
