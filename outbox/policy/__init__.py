"""Pure decisions: facts and the time go in, a decision comes out. No I/O."""
