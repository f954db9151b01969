"""The shop's own data."""

from django.db import models


class Order(models.Model):
    """Somebody ordered something; the warehouse packs it."""

    customer = models.EmailField()
    item = models.CharField(max_length=100)
    packed = models.BooleanField(default=False)
