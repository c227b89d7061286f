"""What is kept and how: tables, the commit of a batch, readers, migrations, the embedded database."""
