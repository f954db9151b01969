"""A FastAPI shop on asyncio whose orders, packing slips and entries in the books are committed together."""
