-- One index instead of two: by user for others' questions, and with the hash for ours. A user's counts
-- are beside each other in it, so a commit touches fewer of its pages.
ALTER TABLE gristmill.page_counts DROP CONSTRAINT page_counts_pkey;
ALTER TABLE gristmill.page_counts ADD PRIMARY KEY (user_id, hash);
DROP INDEX gristmill.page_counts_user;
