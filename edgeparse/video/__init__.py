"""A clip -> frames -> one report. `Parser.parse_video` is the way in; PyAV is loaded when the first clip is opened."""
