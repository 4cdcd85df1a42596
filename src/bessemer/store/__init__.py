"""Rows, blobs and the journal: all SQL and all files of the data folder are here, a module for each noun.

A repository function takes a `Database`, which is bound to a project; a change and its audit event are made in one
`Database.transaction`.
"""
