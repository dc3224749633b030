create database $name owner postgres
