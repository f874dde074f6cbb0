"""Raw exposures from where they are kept: MAST, its public bucket, mirrors, folders.

What a source holds is a list of `Item`s (`mast`, `bucket`, `folder`); what an exposure is, its own header
says (`headers`), of which a source gives the first blocks; how a file comes whole is the business of
`transfer`, `cache` and `verify`, whatever the source.
"""
