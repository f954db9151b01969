"""The Celery applications that are measured; they differ in nothing but what is measured."""
