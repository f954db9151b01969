"""Where the shop's pages are."""

from django.contrib import admin
from django.urls import path

from examples.django_shop.orders import views

urlpatterns = [
    path("orders", views.place),
    path("orders/<int:number>", views.show),
    path("admin/", admin.site.urls),
]
